#!/usr/bin/env bash
# The gate's queries, for the embedder all-MiniLM-L6-v2: the adapter in core/pretrained/all-MiniLM-L6-v2.
#
# First all paragraphs of the training questions are embedded, once (51,234 passages), then 500 steps of 64 queries.
# Measured: the steps took 42 minutes with one thread on a core of an AMD EPYC with AVX-512 in bf16, beside another
# training (the seconds in metrics.jsonl). Embedding comes before, and shows its progress.
# Stop it and run it again: it goes on. Watch held_out_missing_recall_at_4 in curve.png.
set -euo pipefail
data=${DATA:-../shared/data}
out=${1:-runs/queries}
python=${PYTHON:-.venv/bin/python}
resume=()
[ -f "$out/settings.json" ] && resume=(--resume)
"$python" -m core.training --stage gate --gate query --data "$data" --out "$out" --steps 500 --batch 64 \
    --learning-rate 3e-4 --warmup 20 --evaluate-every 125 --save-every 125 "${resume[@]}"
