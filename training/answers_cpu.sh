#!/usr/bin/env bash
# A reasoner that answers from the notes that the tagger makes, wrong ones among them, and says where they do not say it;
# for the second look. It goes on from the adapters of `training/smollm2_cpu.sh` (START=FOLDER), or from the default ones,
# which have gone through it already.
#
# 190 steps of four lessons, three of which are eight answers each. Measured: 28 to 31 seconds a step on an AMD EPYC with
# AVX-512 in bf16, one thread for the model and one that makes the notes of the next lessons; 43 with another training
# beside it. The adapter that ships was made in three parts (its CARD.md); this is about the same in one piece, and has
# not been run whole. Stop it and run it again: it goes on. Watch held_out_loss_noted in curve.png. What it came to is in
# docs/benchmarks.md, "A second look before the answer".
set -euo pipefail
data=${DATA:-../shared/data}
start=${START:-core/pretrained/SmolLM2-135M-Instruct}
out=${1:-runs/answers}
python=${PYTHON:-.venv/bin/python}
resume=()
[ -f "$out/settings.json" ] && resume=(--resume)
"$python" -m core.training --stage reasoner --data "$data" --adapters "$start" --out "$out" --noted 0.75 \
    --forms raw,compressed --placement selected --ratios 2,4,4,8 --steps 190 --batch 4 --learning-rate 3e-4 \
    --warmup 8 --evaluate-every 60 --save-every 10 "${resume[@]}"
