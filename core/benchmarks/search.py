"""How finding gold paragraphs goes with the size of a namespace: recall, seconds and memory, approximate and exact.

One bank grows from size to size. Its first documents are the gold paragraphs of the questions, then come real
paragraphs, then copies of these with a number at the head of each passage. Passages have the embedder's own
vectors; those of copies are the original's with a little seeded noise, because embedding ten million tokens takes
hours on one core. Slots are those of a tiny random model, or none: they play no part in the coarse search.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from ..approximation import IndexSettings
from ..backbone import Backbone
from ..chunking import Span, chunk_id
from ..embedder import Embedder
from ..engine import Engine
from ..errors import CompressedMemoryError, InputError
from ..ingest import Document
from ..memory_bank import DocumentRecord, EncodedChunk, Fingerprint, MemoryBank
from ..namespace_index import built
from ..passage_index import PassageIndex, highest
from ..questions import Paragraph, Question
from ..settings import DEFAULT_NAMESPACE, CompressionSettings, RecallSettings
from ..vector_file import VectorFile
from ..weights import DEFAULT_EMBEDDER, DEFAULT_MODEL, resolve
from .memory import peak_bytes

NOISE = 0.3
"""Length of what is added to the unit vector of a passage's original: their cosine is about 0.96."""
_MARK = re.compile(r"\[#\d+\.\d+\] ")
_MARK_TOKENS = 8
_COMMIT_CHUNKS = 512
_CHUNK_TOKENS = CompressionSettings().chunk_tokens
_REACHES = (4, 32)
_CANDIDATES = RecallSettings().candidates


@dataclass(frozen=True)
class SearchRow:
    """One size of the bank."""

    tokens: int
    """In the namespace."""
    passages: int
    real_share: float
    """Of the passages: with the embedder's own vectors of real text."""
    index: str
    """Kind, and lists looked at of all."""
    scanned: float
    """Share of the passages that the index looks at."""
    measured_recall: float
    """What the index says of itself: of the 32 nearest, with held-out passages. Of inverted lists that were tried and
    not taken where it is flat."""
    flat_at_4: float
    """Share of gold paragraphs among the 4 nearest chunks to a question, by the flat index; and so on."""
    approximate_at_4: float
    exact_at_4: float
    flat_at_32: float
    approximate_at_32: float
    exact_at_32: float
    approximate_over_flat: float
    """Seconds of a search over those of the flat index, side by side, medians over questions."""
    exact_over_flat: float
    first_open_over_next: float
    """Seconds until the index is there: where it was made over where it is kept."""
    ingest_peak_mib: float
    """Most memory of the process that took in what this size has over the last."""
    ask_peak_mib: float
    """Most memory of a process that opens the bank and searches, models not loaded."""


class RecordedEmbedder(Embedder):
    """The embedder with its vectors in a file, and noise on those of copies."""

    def __init__(self, name: str, vectors: Path) -> None:
        super().__init__(name)
        # The same vectors on every machine: the file may have been begun on another.
        self._model.to(torch.float32)
        self.vectors = VectorFile(vectors, self.dimension)

    def passages(self, text: str) -> list[Span]:
        """Cut as the embedder does, a copy where its original was cut."""
        starts = [mark.start() for mark in _MARK.finditer(text)]
        if not starts:
            return super().passages(text)
        return [Span(start, end) for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return recorded vectors, float32 [texts, dimension]; what is not recorded is embedded."""
        self.vectors.fill((t for t in texts if not _MARK.match(t)), _Plain(self))
        return np.stack([recorded(self.vectors, text) for text in texts])

    def embed_now(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed without the file."""
        return super().embed(texts)


def recorded(vectors: VectorFile, text: str) -> NDArray[np.float32]:
    """Return the unit vector of a passage, float32 [dimension]: of a copy, its original's with noise."""
    mark = _MARK.match(text)
    if not mark:
        return vectors[text]
    vector = vectors[text[mark.end() :]]
    noise = np.random.default_rng(zlib.crc32(text.encode())).normal(size=len(vector))
    noised = vector + NOISE * noise / np.linalg.norm(noise)
    return (noised / np.linalg.norm(noised)).astype(np.float32)


@dataclass(frozen=True)
class _Plain:
    """The model itself, for filling the file."""

    recorded: RecordedEmbedder

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.recorded.embed_now(texts)


def measure(
    questions: Sequence[Question],
    pool: Sequence[Paragraph],
    tokens: Sequence[int],
    vectors: Path,
    *,
    flat_below: int,
    text_only: bool = False,
    embedder: str = DEFAULT_EMBEDDER,
    scratch: Path | None = None,
    step: Callable[[str], None] = lambda _: None,
) -> list[SearchRow]:
    """Grow a bank to each of ``tokens`` and search it.

    Args:
        questions: whose gold paragraphs are sought.
        pool: other paragraphs; copies of them fill the bank up.
        vectors: the file of embeddings; what it lacks is embedded first, and is there the next time.
        flat_below: passages below which the index is flat, see :class:`core.approximation.IndexSettings`.
        text_only: chunks are committed as they are, past cutting and encoding, a paragraph each: far cheaper.
        scratch: where the bank is made; it is removed.
        step: called with what is done.
    """
    if not questions or not pool:
        raise InputError("no question or no paragraph was given: give --data and --pool with some")
    with tempfile.TemporaryDirectory(prefix="compressed-memory-", dir=scratch) as folder:
        place = Path(folder)
        _prepare(RecordedEmbedder(embedder, vectors), questions, pool, place, step)
        rows = []
        for size in sorted(tokens):
            given = json.dumps([str(place), str(vectors), embedder, size, flat_below])
            tasks = ("commit" if text_only else "ingest", "compare", "ask")
            done = {task: _child(task, given) for task in tasks}
            rows.append(_row(done))
            step(json.dumps(asdict(rows[-1])))
    return rows


def _prepare(
    embedder: RecordedEmbedder,
    questions: Sequence[Question],
    pool: Sequence[Paragraph],
    place: Path,
    step: Callable[[str], None],
) -> None:
    """Embed what is not yet, and write the material and a tiny model for the processes that measure."""
    tokenizer = AutoTokenizer.from_pretrained(resolve(DEFAULT_MODEL))
    gold = dict.fromkeys(p.document for question in questions for p in question.gold)
    others = [text for text in dict.fromkeys(p.document for p in pool) if text not in gold]
    texts = [*gold, *others]
    cuts = [[text[start:end] for start, end in embedder.passages(text)] for text in texts]
    wanted = [*(q.question for q in questions), *(passage for cut in cuts for passage in cut)]
    done = 0

    def embedded(count: int) -> None:
        nonlocal done
        done += count
        step(f"{done} of {len(wanted)} passages embedded")

    embedder.vectors.fill(wanted, _Plain(embedder), embedded)
    with (place / "material.jsonl").open("w", encoding="utf-8") as lines:
        for number, (text, cut) in enumerate(zip(texts, cuts, strict=True)):
            count = len(tokenizer(text, add_special_tokens=False)["input_ids"])
            lines.write(json.dumps({"gold": number < len(gold), "passages": cut, "tokens": count}) + "\n")
    asked = [{"question": q.question, "gold": [p.document for p in q.gold]} for q in questions]
    (place / "questions.json").write_text(json.dumps(asked), encoding="utf-8")
    (place / "dimension.json").write_text(json.dumps(embedder.dimension))
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=4096, **shape))
    model.save_pretrained(place / "tiny")
    tokenizer.save_pretrained(place / "tiny")


@dataclass(frozen=True)
class _Piece:
    """A paragraph of the material or a copy of one."""

    document_id: str
    passages: list[str]
    tokens: int


def _pieces(material: Path, tokens: int) -> Iterator[_Piece]:
    """Yield the material once, and then copies of what is not gold, until there are ``tokens``."""
    read, turn, before = 0, 0, -1
    while read > before:
        before = read
        with material.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines):
                held = json.loads(line)
                count = held["tokens"] + (_MARK_TOKENS * len(held["passages"]) if turn else 0)
                # A copy that is cut into chunks would be cut inside a passage, which has no recorded vector.
                if turn and (held["gold"] or count > _CHUNK_TOKENS):
                    continue
                if read >= tokens:
                    return
                mark = f"[#{turn}.{number}] " if turn else ""
                read += count
                yield _Piece(f"{turn}.{number}", [mark + passage for passage in held["passages"]], count)
        turn += 1
    if read < tokens:
        raise InputError(f"no paragraph can be copied to fill {tokens} tokens up: give a --pool with shorter ones")


def documents(material: Path, tokens: int) -> Iterator[Document]:
    """Yield what :func:`measure` takes in: the material, then copies, until there are ``tokens``."""
    for piece in _pieces(material, tokens):
        yield Document(piece.document_id, "".join(piece.passages))


def _child(task: str, given: str) -> dict[str, float | str]:
    command = [sys.executable, "-m", __name__, task, given]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if run.returncode:
        raise CompressedMemoryError(f"{task} in a process of its own failed: see above")
    done: dict[str, float | str] = json.loads(run.stdout.splitlines()[-1])
    return done


def _row(done: dict[str, dict[str, float | str]]) -> SearchRow:
    compared = done["compare"]
    return SearchRow(
        **{name: value for name, value in compared.items() if name != "seconds"},  # type: ignore[arg-type]
        first_open_over_next=float(compared["seconds"]) / float(done["ask"]["seconds"]),
        ingest_peak_mib=float((done.get("ingest") or done["commit"])["peak_bytes"]) / 2**20,
        ask_peak_mib=float(done["ask"]["peak_bytes"]) / 2**20,
    )


def _ingest(place: Path, vectors: Path, embedder: str, tokens: int, flat_below: int) -> dict[str, float | str]:
    backbone = Backbone.load(str(place / "tiny"))
    settings = IndexSettings(flat_below=flat_below)
    recorded = RecordedEmbedder(embedder, vectors)
    with Engine(backbone, recorded, CompressionSettings(), place / "bank", index=settings) as engine:
        engine.add(documents(place / "material.jsonl", tokens))
    return {"peak_bytes": peak_bytes()}


def _commit(place: Path, vectors: Path, embedder: str, tokens: int, flat_below: int) -> dict[str, float | str]:  # noqa: ARG001
    """Commit paragraphs as chunks without slots, past the models."""
    dimension = json.loads((place / "dimension.json").read_text())
    file, settings = VectorFile(vectors, dimension), CompressionSettings(encode=False)
    made = Fingerprint(model="none", weights="none", embedder=embedder, **settings.model_dump())
    bank, coming = MemoryBank(made, place / "bank"), _pieces(place / "material.jsonl", tokens)
    with bank.writing():
        while part := list(islice(coming, _COMMIT_CHUNKS)):
            new = [piece for piece in part if bank.document_hash(DEFAULT_NAMESPACE, piece.document_id) is None]
            stored = [_committed(piece, file) for piece in new]
            bank.commit(DEFAULT_NAMESPACE, [chunk for chunk, _ in stored], [record for _, record in stored])
    bank.close()
    return {"peak_bytes": peak_bytes()}


def _committed(piece: _Piece, file: VectorFile) -> tuple[EncodedChunk, DocumentRecord]:
    text = "".join(piece.passages)
    name = chunk_id(DEFAULT_NAMESPACE, text)
    found = np.stack([recorded(file, passage) for passage in piece.passages])
    record = DocumentRecord(piece.document_id, sha256(text.encode()).hexdigest(), ((name, Span(0, len(text))),))
    return EncodedChunk(name, text, piece.tokens, None, found), record


def _ask(place: Path, vectors: Path, embedder: str, tokens: int, flat_below: int) -> dict[str, float | str]:  # noqa: ARG001
    """Open the bank as a user's process does, and search; what the catalogue keeps of the index is there."""
    asked, _ = _questions(place, vectors)
    bank = MemoryBank(path=place / "bank", index=IndexSettings(flat_below=flat_below))
    start = time.perf_counter()
    index = bank.index(DEFAULT_NAMESPACE)
    seconds = time.perf_counter() - start
    for question in asked:
        index.similarities(question[None], _CANDIDATES)
    return {"peak_bytes": peak_bytes(), "seconds": seconds}


def _compare(place: Path, vectors: Path, embedder: str, tokens: int, flat_below: int) -> dict[str, float | str]:  # noqa: ARG001
    asked, gold = _questions(place, vectors)
    bank = MemoryBank(path=place / "bank", index=IndexSettings(flat_below=flat_below))
    start = time.perf_counter()
    index = bank.index(DEFAULT_NAMESPACE)
    seconds = time.perf_counter() - start
    flat = built(bank.rows, DEFAULT_NAMESPACE, index.chunks)
    row_of = {chunk.document_id: row for row, chunk in enumerate(index.chunks)}
    wanted = [[row_of[name] for name in names] for names in gold]
    ways: dict[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
        "flat": lambda q: flat.similarities(q, _CANDIDATES),
        "approximate": lambda q: index.similarities(q, _CANDIDATES),
        "exact": lambda q: index.similarities(q, _CANDIDATES, exact=True),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    recalls: dict[str, list[float]] = {f"{name}_at_{reach}": [] for name in ways for reach in _REACHES}
    for question, rows in zip(asked, wanted, strict=True):
        for name, search in ways.items():
            start = time.perf_counter()
            scores = search(question[None])
            taken[name].append(time.perf_counter() - start)
            for reach in _REACHES:
                found = set(highest(scores, reach).tolist())
                recalls[f"{name}_at_{reach}"].append(sum(row in found for row in rows) / len(rows))
    medians = {name: float(np.median(values)) for name, values in taken.items()}
    return {
        **_described(bank, index),
        **{name: float(np.mean(values)) for name, values in recalls.items()},
        "approximate_over_flat": medians["approximate"] / medians["flat"],
        "exact_over_flat": medians["exact"] / medians["flat"],
        "seconds": seconds,
    }


def _described(bank: MemoryBank, index: PassageIndex) -> dict[str, float | str]:
    report = index.report
    real = "SELECT COUNT(*) FROM passages JOIN placements USING (chunk_id) JOIN documents USING (document) "
    ((count,),) = bank.rows(f"{real} WHERE document_id LIKE '0.%'")
    ((tokens,),) = bank.rows("SELECT SUM(tokens) FROM chunks")
    kind = f"{report.kind}, {report.probes} of {report.lists}" if report.kind == "ivf" else report.kind
    return {
        "tokens": tokens,
        "passages": report.passages,
        "real_share": count / report.passages,
        "index": kind,
        "scanned": report.scanned,
        "measured_recall": report.recall if report.refused is None else report.refused,
    }


def _questions(place: Path, vectors: Path) -> tuple[NDArray[np.float32], list[list[str]]]:
    """Return the questions' vectors, float32 [questions, dimension], and the ids of their gold documents."""
    asked = json.loads((place / "questions.json").read_text(encoding="utf-8"))
    id_of: dict[str, str] = {}
    with (place / "material.jsonl").open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            held = json.loads(line)
            if not held["gold"]:
                break
            id_of["".join(held["passages"])] = f"0.{number}"
    file = VectorFile(vectors, json.loads((place / "dimension.json").read_text()))
    found = np.stack([file[held["question"]] for held in asked])
    return found, [[id_of[text] for text in held["gold"]] for held in asked]


def run_task(task: str, given: str) -> dict[str, float | str]:
    """Do what a child is started for."""
    tasks = {"ingest": _ingest, "commit": _commit, "ask": _ask, "compare": _compare}
    where, file, name, size, below = json.loads(given)
    return tasks[task](Path(where), Path(file), name, size, below)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run_task(sys.argv[1], sys.argv[2])) + "\n")
