"""What the gates say of a bank's chunks, and the order in which a scan reads."""

import time
from contextlib import closing

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from core.backbone import Backbone
from core.chunking import Span
from core.compressor import Compressor
from core.embedder import Embedder
from core.errors import BankError
from core.gate import BankGate, Scan, SimilarityGate, ahead
from core.memory_bank import DocumentRecord, EncodedChunk, Fingerprint, MemoryBank
from core.passage_index import PassageIndex, StoredChunk
from core.settings import CompressionSettings, RecallSettings
from core.similarity import UNTRAINED
from core.slot_gate import ProbeGate, SlotGate
from core.working_memory import Note, WorkingMemory

from .tiny_models import backbone, randomize_adapter

QUESTION = "Who kept the lighthouse?"
EMPTY = WorkingMemory()
TEXTS = (
    "Anna Holm kept the lighthouse at Skagen.",
    "Bread is baked from flour, water and yeast.",
    "The diary of Anna Holm was sold to a museum in Aalborg.",
    "A museum in Aalborg shows ships.",
)


def note(text: str) -> Note:
    return Note(text, text, "chunk", "document", Span(0, len(text)), 0.5)


# ---- gates over a bank ----


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(device="cpu")


def filled_bank(model: Backbone, embedder: Embedder) -> MemoryBank:
    settings = CompressionSettings(ratio=4)
    fingerprint = Fingerprint(
        model="tiny", weights="0", chunk_tokens=1024, ratio=4, placement="in_place", sink_tokens=4, embedder="minilm"
    )
    bank = MemoryBank(fingerprint)
    ids = [model.encode(text) for text in TEXTS]
    slots = Compressor(model, settings).compress(ids)
    chunks = [EncodedChunk(str(i), text, len(ids[i]), slots[i], embedder.embed([text])) for i, text in enumerate(TEXTS)]
    record = DocumentRecord("document", "0", tuple((str(i), Span(0, len(t))) for i, t in enumerate(TEXTS)))
    with bank.writing():
        bank.commit("default", chunks, [record])
    return bank


def trained_gate(
    model: Backbone, embedder: Embedder, bank: MemoryBank, kind: type[SlotGate | ProbeGate] = SlotGate, **options: int
) -> BankGate:
    """Return a gate away from where training starts, so that the hidden state counts."""
    gate = kind(model)
    nn.init.normal_(gate.head.weight[:, :-1], std=0.3, generator=torch.Generator().manual_seed(0))
    return BankGate(gate.requires_grad_(False), embedder, bank, **{"candidates": 256, **options})


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    model = backbone()
    model.add_adapter("gate", rank=4, alpha=8)
    randomize_adapter(model, "gate", 0)
    return model


@pytest.fixture(scope="module")
def bank(tiny: Backbone, embedder: Embedder) -> MemoryBank:
    return filled_bank(tiny, embedder)


def test_an_untrained_slot_gate_says_what_the_similarity_gate_says(
    tiny: Backbone, embedder: Embedder, bank: MemoryBank
) -> None:
    index = bank.index("default")
    by_slots = BankGate(SlotGate(tiny), embedder, bank, candidates=256).probabilities(QUESTION, EMPTY, index)
    by_similarity = SimilarityGate(embedder, None).probabilities(QUESTION, EMPTY, index)
    assert by_slots.dtype == by_similarity.dtype == np.float32
    np.testing.assert_allclose(by_slots, by_similarity, atol=1e-5)
    assert by_slots[0] > 0.5 > by_slots[1]


@pytest.mark.parametrize("kind", [SlotGate, ProbeGate])
def test_the_size_of_a_batch_changes_no_probability(
    tiny: Backbone, embedder: Embedder, bank: MemoryBank, kind: type[SlotGate | ProbeGate]
) -> None:
    index = bank.index("default")
    one, three, all_at_once = (
        trained_gate(tiny, embedder, bank, kind, batch=batch).probabilities(QUESTION, EMPTY, index)
        for batch in (1, 3, 16)
    )
    np.testing.assert_allclose(one, all_at_once, atol=1e-4)
    np.testing.assert_allclose(three, all_at_once, atol=1e-4)


def test_only_the_nearest_candidates_have_a_probability(tiny: Backbone, embedder: Embedder, bank: MemoryBank) -> None:
    index = bank.index("default")
    every = trained_gate(tiny, embedder, bank).probabilities(QUESTION, EMPTY, index)
    some = trained_gate(tiny, embedder, bank, candidates=2).probabilities(QUESTION, EMPTY, index)
    cosines = embedder.embed(TEXTS) @ embedder.embed([QUESTION])[0]
    nearest = set(np.argsort(-cosines)[:2].tolist())
    assert set(np.flatnonzero(some).tolist()) == nearest
    np.testing.assert_allclose(some[sorted(nearest)], every[sorted(nearest)], atol=1e-4)


def test_notes_change_the_scores_and_the_nearest_note_counts(embedder: Embedder, bank: MemoryBank) -> None:
    gate, index = SimilarityGate(embedder, None), bank.index("default")
    memory = WorkingMemory((note("Bread needs flour."), note("Anna Holm kept the lighthouse at Skagen.")))
    queries = embedder.embed([f"{QUESTION} {line}" for line in memory.lines])
    cosines = (embedder.embed(TEXTS) @ queries.T).max(axis=1)
    expected = 1 / (1 + np.exp(-UNTRAINED.slope * (cosines - UNTRAINED.midpoint)))
    found = gate.probabilities(QUESTION, memory, index)
    # Embedded one at a time and together: in bf16 the last digits differ.
    np.testing.assert_allclose(found, expected, atol=5e-3)
    assert found[2] > gate.probabilities(QUESTION, EMPTY, index)[2]


def test_what_the_index_did_not_return_has_no_probability(embedder: Embedder, bank: MemoryBank) -> None:
    found = SimilarityGate(embedder, 1).probabilities(QUESTION, EMPTY, bank.index("default"))
    assert found[0] > 0.5
    assert found[1:].tolist() == [0, 0, 0]


# ---- the scan ----


class WrittenGate:
    """Probabilities written down for each state of the memory; the last ones hold from then on."""

    def __init__(self, *written: list[float]) -> None:
        self._written = written
        self.asked: list[str] = []

    def probabilities(self, question: str, memory: WorkingMemory, index: PassageIndex) -> NDArray[np.float32]:
        self.asked.append(question)
        return np.array(self._written[min(len(memory.notes), len(self._written) - 1)], dtype=np.float32)


def memory_of(notes: int) -> WorkingMemory:
    return WorkingMemory(tuple(note(f"note {i}") for i in range(notes)))


def scan_over(gate: WrittenGate, chunks: int = 5, **settings: object) -> Scan:
    stored = [StoredChunk(str(row), "document", Span(row, row + 1), 1, 1) for row in range(chunks)]
    index = PassageIndex(stored, np.arange(chunks), np.eye(chunks, dtype=np.float32))
    return Scan(index, gate, RecallSettings(**{"top_k": 5, "max_steps": 5, **settings}))


def opened(scan: Scan, memory: WorkingMemory = EMPTY) -> list[str]:
    """Read to the end with a memory that does not change."""
    found = []
    while step := scan.next_open(QUESTION, memory):
        found.append(step[0].chunk_id)
    return found


def test_chunks_open_in_document_order_not_by_probability() -> None:
    assert opened(scan_over(WrittenGate([0.6, 0.1, 0.9, 0.2, 0.8]))) == ["0", "2", "4"]


def test_a_chunk_comes_with_its_probability() -> None:
    step = scan_over(WrittenGate([0.1, 0.75, 0.9, 0.2, 0.8])).next_open(QUESTION, EMPTY)
    assert step is not None
    assert (step[0].chunk_id, step[1]) == ("1", 0.75)


def test_a_chunk_opens_only_above_the_threshold() -> None:
    written = [0.5, 0.25, 0.75, 0.0, 1.0]
    assert opened(scan_over(WrittenGate(written), threshold=0.5)) == ["2", "4"]
    assert opened(scan_over(WrittenGate(written), threshold=0.0)) == ["0", "1", "2", "4"]
    assert opened(scan_over(WrittenGate(written), threshold=1.0)) == []


def test_only_the_likeliest_few_open_and_read_ones_count_among_them() -> None:
    assert opened(scan_over(WrittenGate([0.6, 0.9, 0.7, 0.95, 0.8]), top_k=3)) == ["1", "3", "4"]


def test_equal_probabilities_open_from_the_front() -> None:
    assert opened(scan_over(WrittenGate([0.8] * 5), top_k=2)) == ["0", "1"]


def test_reading_ends_after_the_most_steps() -> None:
    assert opened(scan_over(WrittenGate([0.9] * 5), max_steps=2)) == ["0", "1"]
    assert opened(scan_over(WrittenGate([0.9] * 5), max_steps=4)) == ["0", "1", "2", "3"]


def test_the_scan_never_turns_back_by_itself() -> None:
    gate = WrittenGate([0.1, 0.1, 0.9, 0.1, 0.1], [0.9, 0.9, 0.9, 0.1, 0.8])
    scan = scan_over(gate)
    assert opened(scan) == ["2"]
    assert opened(scan, memory_of(1)) == ["4"]  # 0 and 1 would open now, and are behind


def test_a_new_memory_is_scored_anew_and_an_old_one_is_not() -> None:
    gate = WrittenGate([0.1, 0.9, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.9, 0.1])
    scan = scan_over(gate)
    scan.next_open(QUESTION, EMPTY)
    scan.passed_over(QUESTION, EMPTY, 0.5)
    scan.next_open(QUESTION, EMPTY)
    assert gate.asked == [QUESTION]
    step = scan.next_open(QUESTION, memory_of(1))
    assert step is not None
    assert step[0].chunk_id == "3"
    scan.passed_over("Another question?", memory_of(1), 0.5)
    assert gate.asked == [QUESTION, QUESTION, "Another question?"]


def test_only_what_the_scan_has_gone_past_is_called_back_likeliest_first() -> None:
    gate = WrittenGate([0.1, 0.1, 0.1, 0.9, 0.1], [0.6, 0.8, 0.2, 0.9, 0.99])
    scan = scan_over(gate)
    scan.next_open(QUESTION, EMPTY)  # 3
    memory = memory_of(1)
    called = [scan.passed_over(QUESTION, memory, 0.5) for _ in range(3)]
    assert [step and (step[0].chunk_id, round(step[1], 3)) for step in called] == [("1", 0.8), ("0", 0.6), None]
    assert opened(scan, memory) == ["4"]


def test_nothing_is_called_back_before_the_scan_has_moved() -> None:
    assert scan_over(WrittenGate([0.9] * 5)).passed_over(QUESTION, EMPTY, 0.0) is None


def test_what_is_called_back_must_open_and_lie_above_the_floor() -> None:
    def called(threshold: float, floor: float, top_k: int) -> str | None:
        gate = WrittenGate([0.0, 0.0, 0.0, 0.0, 1.0], [0.75, 0.5, 0.25, 0.0, 1.0])
        scan = scan_over(gate, threshold=threshold, top_k=top_k)
        scan.next_open(QUESTION, EMPTY)
        step = scan.passed_over(QUESTION, memory_of(1), floor)
        return step[0].chunk_id if step else None

    assert called(0.5, 0.5, 5) == "0"
    assert called(0.0, 0.75, 5) is None  # it opens, and is not above the floor
    assert called(0.8, 0.0, 5) is None  # it is above the floor, and does not open
    assert called(0.0, 0.0, 1) is None  # only the likeliest opens, and that is read


def test_nothing_is_read_twice_and_called_back_chunks_count_as_steps() -> None:
    gate = WrittenGate([0.1, 0.1, 0.9, 0.1, 0.1], [0.9, 0.8, 0.9, 0.9, 0.9])
    scan, memory, read = scan_over(gate, max_steps=4, top_k=4), memory_of(1), []
    read.append(scan.next_open(QUESTION, EMPTY))
    read.append(scan.passed_over(QUESTION, memory, 0.5))
    read.append(scan.next_open(QUESTION, memory))
    # 0, 2, 3 and 4 are the likeliest four.
    assert scan.passed_over(QUESTION, memory, 0.5) is None
    read.append(scan.next_open(QUESTION, memory))
    assert [step and step[0].chunk_id for step in read] == ["2", "0", "3", "4"]
    assert scan.next_open(QUESTION, memory_of(2)) is None
    assert scan.passed_over(QUESTION, memory_of(2), 0.0) is None


# ---- reading ahead ----


@pytest.mark.parametrize("kind", [SlotGate, ProbeGate])
def test_slots_that_are_read_ahead_give_the_same_probabilities(
    tiny: Backbone, embedder: Embedder, bank: MemoryBank, kind: type[SlotGate | ProbeGate], monkeypatch
) -> None:
    index = bank.index("default")
    gate = trained_gate(tiny, embedder, bank, kind, batch=1)
    found = gate.probabilities(QUESTION, EMPTY, index)
    monkeypatch.setattr("core.gate.ahead", lambda parts, read: (read(part) for part in parts))
    assert np.array_equal(found, gate.probabilities(QUESTION, EMPTY, index))
    assert (found > 0).all()


def test_one_part_is_read_ahead_in_order_and_no_more() -> None:
    begun: list[int] = []

    def read(part: int) -> int:
        begun.append(part)
        return 10 * part

    with closing(ahead(range(5), read)) as reading:
        assert next(reading) == 0
        while len(begun) < 2:  # the second is on its way while the first is in use
            time.sleep(0.001)
        assert [next(reading), next(reading)] == [10, 20]
    assert begun in ([0, 1, 2], [0, 1, 2, 3])
    assert list(ahead([], read)) == []
    assert list(ahead([7], read)) == [70]


def test_an_error_of_reading_ahead_comes_when_its_turn_does() -> None:
    def read(part: int) -> int:
        if part == 1:
            raise BankError("shard is damaged")
        return part

    reading = ahead(range(3), read)
    assert next(reading) == 0
    with pytest.raises(BankError, match="damaged"):
        next(reading)


def test_a_gate_over_slots_scores_what_the_index_returned_and_no_more(
    tiny: Backbone, embedder: Embedder, bank: MemoryBank
) -> None:
    found = trained_gate(tiny, embedder, bank, passages=2).probabilities(QUESTION, EMPTY, bank.index("default"))
    assert (found > 0).sum() == 2
