#!/usr/bin/env bash
# The extractor of answers, for the embedder all-MiniLM-L6-v2: the adapter in core/pretrained/all-MiniLM-L6-v2/extractor.
#
# First 1,300 steps of 32 questions with labelled evidence, one pass and a half over those that can be learned from.
# Measured: 1.4 to 2 seconds a step on the two cores of an Intel Xeon with AMX in bf16, other work beside it. Then 800
# steps in which half of the notes are made by the tagger that ships, by a process of their own: 3.5 seconds a step on
# two cores of an AMD EPYC with AVX-512 in bf16, a thread for each. Stop it and run it again: it goes on. Watch
# held_out_f1 (of the likeliest span) and held_out_declined_silent (the share of the notes without the answer in which
# none is found) in curve.png, and in the second part the same with _noted. What they come to is in docs/benchmarks.md,
# "Two readers" and "Notes as they are in use".
# What ships saw questions made of paragraphs and docstrings in the second part: DATA from training/smollm2_h100.sh data.
set -euo pipefail
data=${DATA:-../shared/data}
out=${1:-runs/extractor}
python=${PYTHON:-.venv/bin/python}

learn() {  # folder, further options
    local resume=() folder=$1
    shift
    [ -f "$folder/settings.json" ] && resume=(--resume)
    "$python" -m core.training --stage extractor --data "$data" --out "$folder" --batch 32 --rank 64 --save-every 50 \
        "${resume[@]}" "$@"
}
learn "$out/first" --steps 1300 --learning-rate 6e-4 --warmup 50 --evaluate-every 100
OMP_NUM_THREADS=1 learn "$out/second" --adapters "$out/first/adapters" --steps 800 --learning-rate 3e-4 --warmup 20 \
    --evaluate-every 200 --noted 0.5 --withheld 0.15 --noting-processes 1
