#!/usr/bin/env bash
# Every stage of training, once through, on a CPU: a tiny random model, questions made from the text that
# Python carries, a few steps each. It shows that the commands run, stop, go on and hand their adapters to
# each other; the model learns nothing of use, and its curves say nothing.
#
# Needs: this package with its [training] extra. The embedder (90 MB) is fetched once for RL and the gate.
# Measured with OMP_NUM_THREADS=1, tests beside it for part of the time, when a thread made the notes: 291 s of user
# and 16 s of system time, a third of it for the notes of the stage before the last.
set -euo pipefail
out=${1:-runs/smoke}
python=${PYTHON:-.venv/bin/python}
rm -rf "$out"

"$python" -m core.training.sample_data "$out/data"
"$python" -m core.training.sample_model "$out/model"
small=(--data "$out/data" --model "$out/model" --rank 4 --warmup 2 --evaluate-every 100)

# Stopped before its first step, as by a full clock, and gone on with.
"$python" -m core.training --stage reasoner --out "$out/reasoner" "${small[@]}" --steps 4 --minutes 0
"$python" -m core.training --stage reasoner --out "$out/reasoner" "${small[@]}" --steps 4 --resume

# The paper's inserted memory tokens, with all three of its objectives.
"$python" -m core.training --stage compressor --out "$out/inserted" "${small[@]}" --steps 2 \
    --placement inserted --reconstruction 0.25 --continuation 0.25

# The same for a reader that stays as it is.
"$python" -m core.training --stage compressor --out "$out/fixed" "${small[@]}" --steps 3 --no-joint

# Which tokens are kept, and a compressor for those.
"$python" -m core.training --stage selector --out "$out/selector" "${small[@]}" --steps 2
"$python" -m core.training --stage compressor --out "$out/selected" "${small[@]}" --steps 2 \
    --placement selected --adapters "$out/selector/adapters"

# All stages in order, each from the adapters of those before it.
"$python" -m core.training --stage all --out "$out/all" "${small[@]}" --steps 2 --batch 2 \
    --reconstruction 0.25 --continuation 0.25 \
    --group 2 --haystack 6 --max-steps 2 --update-tokens 8 --answer-tokens 8 --held-out-questions 2

# The other gate, on the same compressor.
"$python" -m core.training --stage gate --gate probes --out "$out/probes" "${small[@]}" --steps 2 \
    --haystack 6 --adapters "$out/all/rl/adapters"

# The cheap kind, which reads no slots.
"$python" -m core.training --stage gate --gate query --out "$out/queries" "${small[@]}" --steps 2 \
    --adapters "$out/all/rl/adapters"

# Answers learned from the notes that a tagger makes: the one that ships, since one of two steps finds little. As a GPU
# wants it: another process makes them, and lessons share passes.
"$python" -m core.training --stage reasoner --out "$out/noted" "${small[@]}" --steps 2 --noted 0.5 \
    --withheld 0.25 --noting-processes 1 --together 2000 \
    --adapters "$out/all/gate/adapters"

# The extractor, on notes that a tagger makes.
"$python" -m core.training --stage extractor --out "$out/extractor" "${small[@]}" --steps 2 --noted 0.5 \
    --withheld 0.25 --adapters "$out/noted/adapters"

# Answers alone sampled, over haystacks some of which do not say them, or say all else.
"$python" -m core.training --stage rl --out "$out/answers" "${small[@]}" --steps 1 --batch 2 --forms raw \
    --sampled answers --outcome f1 --absent 0.3 --withheld 0.3 --together 2000 --group 2 \
    --haystack 6 --answer-tokens 8 --held-out-questions 2 \
    --adapters "$out/noted/adapters"

# Answers chosen of what both readers find, with the extractor of the run above.
"$python" -m core.training --stage rl --out "$out/choices" "${small[@]}" --steps 1 --batch 2 --forms raw \
    --sampled candidates --outcome f1 --absent 0.3 --haystack 6 --answer-tokens 8 --held-out-questions 2 \
    --adapters "$out/all/extractor/adapters"

for made in reasoner inserted fixed selector selected all/reasoner all/compressor all/rl all/gate all/evidence all/extractor \
    probes queries noted extractor answers choices; do
    test -s "$out/$made/curve.png"
    test -s "$out/$made/adapters/adapters.json"
done
test -s "$out/inserted/adapters/compressor/memory_embedding.safetensors"
test -s "$out/selected/adapters/compressor/selector.safetensors"
test -s "$out/probes/adapters/gate/head.safetensors"
test -s "$out/queries/adapters/queries/adapter_model.safetensors"
test -s "$out/all/evidence/adapters/evidence/head.safetensors"
test -s "$out/all/extractor/adapters/extractor/head.safetensors"
test -s "$out/all/extractor/adapters/evidence/head.safetensors"
test -s "$out/all/extractor/adapters/gate/head.safetensors"
test -s "$out/noted/adapters/gate/head.safetensors"
test -s "$out/extractor/adapters/extractor/head.safetensors"
echo "every stage ran; see $out/*/curve.png"
