#!/usr/bin/env bash
# The reasoner of the default adapters, for SmolLM2-135M-Instruct, on two CPU cores in about two hours.
#
# Measured on one core of an Intel Xeon with AMX, other work beside it: 19 to 30 seconds a step of six lessons, about
# 5 GiB of memory. Stop it and run it again: it goes on. The adapter that ships was made in three parts with other
# targets in the first, see core/pretrained/SmolLM2-135M-Instruct/CARD.md; this is the same in one piece, and has not
# been run whole. It leaves a compressor's adapter too: to ship the reasoner alone, leave that folder out.
set -euo pipefail
data=${DATA:-../shared/data}
out=${1:-runs/smollm2-cpu}
python=${PYTHON:-.venv/bin/python}
resume=()
[ -f "$out/settings.json" ] && resume=(--resume)
"$python" -m core.training --stage compressor --data "$data" --out "$out" --forms raw,compressed --ratios 2,4,4,8 \
    --steps 330 --batch 6 --learning-rate 5e-4 --warmup 10 --evaluate-every 60 --save-every 15 "${resume[@]}"
