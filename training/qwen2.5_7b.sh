#!/usr/bin/env bash
# The first paper's settings (LycheeMemory, arXiv 2602.08382) for its own base, Qwen2.5-7B-Instruct.
#
# Where this project differs, and why:
#   - slots in place, not inserted; PLACEMENT=inserted is the paper's (core/compressor.py has both).
#   - chunks of up to 1,024 tokens in the lessons, not 2,048 to 8,192.
#   - the gate's tuples come from the labels, not from rollouts.
#   - RL adds ReMemR1's step rewards; every update is on-policy.
#
# Needs, by arithmetic and not by measurement: 15 GB for the weights in bf16, and the activations of a
# batch; the paper used two A100 of 80 GB. Activations are not recomputed and the weights are not sharded:
# every GPU holds all of them. Not measured: anything of this file.
#
# Data: as training/data.md says. The paper's own: about 160M tokens of RedPajama for the compressor, and
# 32,768 questions of HotpotQA for RL that the base does not answer without a text (--leave-out-closed-book).
#
# PROCESSES is the number of GPUs. The batch is over all of them, and a multiple of their number.
set -euo pipefail
data=${DATA:?"a folder as training/data.md describes it"}
runs=${RUNS:-runs/qwen2.5-7b}
accelerate=${ACCELERATE:-.venv/bin/accelerate}
placement=${PLACEMENT:-in_place}
common=(--model Qwen/Qwen2.5-7B-Instruct --data "$data" --placement "$placement" --ratios 2,4,8,16)
train() { "$accelerate" launch --num_processes "${PROCESSES:-2}" -m core.training "${common[@]}" "$@"; }

# 1. Compressor: rank 64, 5,000 steps of 8, cosine from 5e-5; the reader is the bare base. The weights of its
#    objectives are not published: a quarter each to reconstruction and continuation is a choice.
train --stage compressor --out "$runs/compressor" --forms compressed --no-joint --rank 64 --steps 5000 --batch 8 \
    --learning-rate 5e-5 --warmup 100 --reconstruction 0.25 --continuation 0.25

# 2. The reasoner's warm start, which the paper does without and ReMemR1 too: format and copying are learned
#    in a few hundred steps, and RL then spends its rollouts on what is hard.
train --stage reasoner --out "$runs/reasoner" --forms raw --adapters "$runs/compressor/adapters" --rank 64 \
    --steps 400 --batch 16 --learning-rate 5e-5

# 3. End to end: 12 questions in groups of 12, 144 rollouts in a step where the paper has 128; KL 1e-3, 3e-5
#    after 10 steps, 150 steps.
train --stage rl --out "$runs/rl" --adapters "$runs/reasoner/adapters" --group 12 --batch 12 --steps 150 \
    --learning-rate 3e-5 --warmup 10 --kl-weight 1e-3 --haystack 130 --leave-out-closed-book

# 4. Gate: rank 16, 5e-5, positives weighted 3.
train --stage gate --out "$runs/gate" --adapters "$runs/rl/adapters" --rank 16 --steps 6000 --batch 16 \
    --learning-rate 5e-5 --haystack 24
