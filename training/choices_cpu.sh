#!/usr/bin/env bash
# Reinforcement learning of which answer is chosen (core/training/choosing.py), on a CPU, from the default adapters or
# from START=FOLDER.
#
# Each of 210 steps asks eight questions over 20 paragraphs through the recall loop, once and greedily, and learns from
# the expected F1 of what both readers find: what the reasoner writes, up to eight spans, and that the notes do not say
# it; and what is worked out beside these. One in eight, then three in ten are asked where nothing says the answer. Stop
# it and run it again: it goes on. Watch expected in curve.png: of a step's eight questions it tells little, of twenty
# steps something. What ships began from the adapters of commit 3df1afe.
# DATA may have questions made of its paragraphs (training/smollm2_h100.sh data DIR).
set -euo pipefail
data=${DATA:-../shared/data}
start=${START:-core/pretrained/SmolLM2-135M-Instruct}
out=${1:-runs/choices}
python=${PYTHON:-.venv/bin/python}

mixed=$out/data
"$(dirname "$0")/rl_data.sh" "$data" "$mixed"

learn() {  # folder, adapters to start from, further options
    local resume=() folder=$1 from=$2
    shift 2
    [ -f "$folder/settings.json" ] && resume=(--resume)
    "$python" -m core.training --stage rl --data "$mixed" --adapters "$from" --out "$folder" --forms raw \
        --sampled candidates --outcome f1 --answer-tokens 96 --batch 8 --kl-weight 0 --held-out-questions 16 \
        --save-every 5 "${resume[@]}" "$@"
}
learn "$out/first" "$start" --absent 0.12 --steps 150 --learning-rate 2e-4 --warmup 5 --evaluate-every 75 --seed 1
# What it came to declined less where nothing says the answer, so that of more questions nothing does.
learn "$out/second" "$out/first/adapters" --absent 0.3 --steps 60 --learning-rate 1e-4 --warmup 3 --evaluate-every 60 \
    --seed 2
