#!/usr/bin/env bash
# The tagger of evidence, for the embedder all-MiniLM-L6-v2: the adapter in core/pretrained/all-MiniLM-L6-v2/evidence.
#
# 900 steps of 16 examples. Measured: 1.9 to 2.5 seconds a step with one thread on a core of an AMD EPYC with AVX-512
# in bf16, other training beside it. Stop it and run it again: it goes on. Watch held_out_loss and held_out_first (the
# share of the texts with evidence whose likeliest sentence is) in curve.png.
set -euo pipefail
data=${DATA:-../shared/data}
out=${1:-runs/evidence}
python=${PYTHON:-.venv/bin/python}
resume=()
[ -f "$out/settings.json" ] && resume=(--resume)
"$python" -m core.training --stage evidence --data "$data" --out "$out" --steps 900 --batch 16 \
    --learning-rate 5e-4 --warmup 30 --evaluate-every 50 --save-every 50 "${resume[@]}"
