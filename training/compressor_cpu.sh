#!/usr/bin/env bash
# The compressor of SmolLM2-135M-Instruct, in place: an adapter that lays what a reader needs into the slots. The reader
# stays the reasoner that ships, so nothing that is read from source text changes.
#
# Measured: 100 steps took 25 minutes of steps with two threads on a two-core AMD EPYC with AVX-512 in bf16, alone for the
# most part; 28 with the three measurements. Stop it and run it again: it goes on. Watch the losses held out in curve.png.
#
# 100 steps of four lessons through slots: 60 in 100 are turns of the recall loop, 15 read pool text again, 25 go on after
# it as the base does after the text itself.
#
# START is a folder of adapters to read with. From one that has a compressor's adapter, as the default has now, it goes on
# with that; to begin anew, copy the folder without compressor/adapter_*. DATA was ../shared/data with questions on
# docstrings beside it: training/smollm2_h100.sh data DIR makes such a folder. What it came to is in docs/benchmarks.md,
# "A trained compressor".
set -euo pipefail
data=${DATA:-../shared/data}
start=${START:-core/pretrained/SmolLM2-135M-Instruct}
out=${1:-runs/compressor}
python=${PYTHON:-.venv/bin/python}
resume=()
[ -f "$out/settings.json" ] && resume=(--resume)
"$python" -m core.training --stage compressor --data "$data" --adapters "$start" --out "$out" --forms compressed \
    --no-joint --placement "${PLACEMENT:-in_place}" --ratios 2,4,4,8 --reconstruction 0.15 --continuation 0.25 --steps 100 \
    --batch 4 --learning-rate 5e-4 --warmup 8 --evaluate-every 50 --save-every 20 "${resume[@]}"
