#!/usr/bin/env bash
# The questions that answers are reinforced on, nearly half of them of several hops: training/rl_data.sh DATA DIR copies
# them from DATA into DIR, with the pool.
set -euo pipefail
data=$1 mixed=$2
mkdir -p "$mixed/train" "$mixed/pool"
cp "$data"/pool/wikipedia.jsonl.gz "$mixed/pool/"
cp "$data"/train/{hotpotqa,2wiki,musique}.jsonl.gz "$mixed/train/"
zcat "$data/train/squad.jsonl.gz" | awk 'NR % 4 == 0' > "$mixed/train/squad.jsonl"
zcat "$data/train/qed.jsonl.gz" | awk 'NR % 12 == 0' > "$mixed/train/qed.jsonl"
# Questions on technical text, where they have been made: training/smollm2_h100.sh data DIR
technical=$data/train/python-docstrings.jsonl.gz
if [ -f "$technical" ]; then
    zcat "$technical" | awk 'NR % 6 == 0' > "$mixed/train/python-docstrings.jsonl"
fi
# Comparisons and two hops, likewise: python -m core.training.encyclopaedia_data
encyclopaedia=$data/train/encyclopaedia.jsonl.gz
if [ -f "$encyclopaedia" ]; then
    zcat "$encyclopaedia" | awk 'NR % 5 == 0' > "$mixed/train/encyclopaedia.jsonl"
fi
