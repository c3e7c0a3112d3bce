#!/usr/bin/env bash
# The reasoner of the default adapters, for SmolLM2-135M-Instruct, on two CPU cores in about an hour.
#
# Measured on an AMD EPYC with AVX-512 bf16 and other work beside it: 13 to 20 seconds a step of four lessons,
# about 5 GiB of memory. Stop it and run it again: it goes on. The adapter that ships was made in two parts with
# other targets in the first, see core/pretrained/SmolLM2-135M-Instruct/CARD.md; this is the same in one piece, and
# has not been run whole.
set -euo pipefail
data=${DATA:-../shared/data}
out=${1:-runs/smollm2-cpu}
python=${PYTHON:-.venv/bin/python}
resume=()
[ -f "$out/settings.json" ] && resume=(--resume)
"$python" -m core.training --stage reasoner --data "$data" --out "$out" \
    --steps 180 --batch 4 --learning-rate 5e-4 --warmup 15 --evaluate-every 60 --save-every 20 "${resume[@]}"
