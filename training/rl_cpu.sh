#!/usr/bin/env bash
# The last stage of the default reasoner, reinforcement learning of its answers, on a CPU. It goes on from
# the default adapters, which may have gone through it already, or from START=FOLDER.
#
# Each of 90 steps asks eight questions over 20 paragraphs through the recall loop, updates greedily, answers eight
# times and learns which of the answers was better. Nearly half of the questions are of several hops. Sampling whole
# rollouts instead (leave --sampled out) is the papers' way; then each writes and learns all of its updates too. Stop it
# and run it again: it goes on. Watch held_out_f1_raw and held_out_declined_raw in curve.png. What is used in the end is
# the average of the weights at the start and at the end, in $out/adapters: at the end itself more is guessed where no
# document answers.
#
# Measured: 32 seconds a step, two threads on the two cores of an AMD EPYC with AVX-512 in bf16, nothing beside it; 47
# when the adapter that ships was made, of step 66 of 90: then each answer went through the question by itself, and the
# adapters were apart from the weights. The recipe has not been run whole. What it came to is in docs/benchmarks.md,
# "Answers learned by reinforcement".
set -euo pipefail
data=${DATA:-../shared/data}
start=${START:-core/pretrained/SmolLM2-135M-Instruct}
out=${1:-runs/rl}
python=${PYTHON:-.venv/bin/python}

mixed=$out/data
"$(dirname "$0")/rl_data.sh" "$data" "$mixed"

resume=()
[ -f "$out/run/settings.json" ] && resume=(--resume)
"$python" -m core.training --stage rl --data "$mixed" --adapters "$start" --out "$out/run" --forms raw \
    --sampled answers --outcome f1 --absent 0.12 --steps 90 --answer-tokens 24 --batch 8 --group 8 \
    --learning-rate 2e-4 --warmup 5 --kl-weight 0 --held-out-questions 16 --evaluate-every 45 --save-every 5 \
    --seed 1 "${resume[@]}"
rm -rf "$out/adapters"
"$python" -m core.training.average "$start" "$out/run/adapters" --out "$out/adapters"
