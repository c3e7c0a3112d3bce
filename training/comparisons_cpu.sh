#!/usr/bin/env bash
# A reasoner that works out which of two comes first, for two cores. It goes on from what `training/smollm2_h100.sh
# answers` came to (START=FOLDER); from the default adapters, which are of it, it has not been run.
#
# 32 steps of four lessons of eight answers, from labelled evidence amid other sentences, half of them comparisons with
# their working. Measured: 25 seconds a step on two threads of an Intel Xeon with AMX in bf16, nothing beside it but now
# and then a test. Stop it and run it again: it goes on. What it came to is in docs/benchmarks.md, "Comparisons, worked
# out". The default reasoner is 0.7 of it and 0.3 of the default before it (commit 1e4203d; BEFORE=FOLDER), which it
# began from, so that it keeps what that one answered.
set -euo pipefail
data=${DATA:?"a folder that training/smollm2_h100.sh data DIR made"}
start=${START:-core/pretrained/SmolLM2-135M-Instruct}
out=${1:-runs/comparisons}
python=${PYTHON:-.venv/bin/python}
mixed=$out/data
mkdir -p "$mixed/train"
# All that have a working, and a fifth of the others.
zcat "$data/train/encyclopaedia.jsonl.gz" | awk 'NR % 5 == 1 || !/"working": null/' > "$mixed/train/encyclopaedia.jsonl"
cp "$data"/train/{hotpotqa,2wiki}.jsonl.gz "$mixed/train/"
zcat "$data/train/squad.jsonl.gz" | awk 'NR % 8 == 0' > "$mixed/train/squad.jsonl"
zcat "$data/train/qed.jsonl.gz" | awk 'NR % 12 == 0' > "$mixed/train/qed.jsonl"
resume=()
[ -f "$out/run/settings.json" ] && resume=(--resume)
"$python" -m core.training --stage reasoner --data "$mixed" --adapters "$start" --out "$out/run" --noted 1.0 \
    --labelled 1.0 --forms raw --steps 32 --batch 4 --together 4000 --ratios 4 --learning-rate 4e-4 --warmup 3 --seed 3 \
    --evaluate-every 1000 --save-every 5 "${resume[@]}"
if [ -n "${BEFORE:-}" ]; then
    "$python" -m core.training.average "$BEFORE" "$out/run/adapters" --share 0.7 --out "$out/adapters"
fi
