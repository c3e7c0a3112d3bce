#!/usr/bin/env bash
# The extractor of answers, for the embedder all-MiniLM-L6-v2: the adapter in core/pretrained/all-MiniLM-L6-v2/extractor.
#
# 1,300 steps of 32 questions, one pass and a half over those that can be learned from. Measured: 1.4 to 2 seconds a step
# on the two cores of an Intel Xeon with AMX in bf16, other work beside it. Stop it and run it again: it goes on. Watch
# held_out_f1 (of the likeliest span) and held_out_declined_silent (the share of the notes without the answer in which
# none is found) in curve.png. What it comes to is in docs/benchmarks.md, "Two readers".
set -euo pipefail
data=${DATA:-../shared/data}
out=${1:-runs/extractor}
python=${PYTHON:-.venv/bin/python}
resume=()
[ -f "$out/settings.json" ] && resume=(--resume)
"$python" -m core.training --stage extractor --data "$data" --out "$out" --steps 1300 --batch 32 --rank 64 \
    --learning-rate 6e-4 --warmup 50 --evaluate-every 100 --save-every 50 "${resume[@]}"
