#!/usr/bin/env bash
# The selector of SmolLM2-135M-Instruct, which chooses the tokens that placement="selected" keeps: the file
# core/pretrained/SmolLM2-135M-Instruct/compressor/selector.safetensors. 260 texts of the pool, each read twice.
#
# Measured: the steps took 17 minutes with one thread on a core of an AMD EPYC in bf16, other work beside it (the
# seconds in metrics.jsonl); 20 minutes with the measurements on held-out texts.
# Stop it and run it again: it goes on. Watch held_out_overlap in curve.png.
set -euo pipefail
data=${DATA:-../shared/data}
out=${1:-runs/selector}
python=${PYTHON:-.venv/bin/python}
resume=()
[ -f "$out/settings.json" ] && resume=(--resume)
"$python" -m core.training --stage selector --data "$data" --out "$out" --steps 260 --batch 1 \
    --learning-rate 3e-3 --warmup 10 --evaluate-every 130 --save-every 65 "${resume[@]}"
