"""The benchmarks of search and of storage on small material."""

from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import pytest
from numpy.typing import NDArray

from core.benchmarks import search, storage
from core.benchmarks.search import NOISE, RecordedEmbedder, documents
from core.embedder import Embedder
from core.errors import InputError
from core.questions import Paragraph, Question
from core.vector_file import VectorFile
from core.weights import DEFAULT_EMBEDDER

from .test_benchmarks import LONG, asked, paragraph
from .tiny_models import backbone


class Counting:
    """An embedder that counts what it is given."""

    def __init__(self) -> None:
        self.given: list[str] = []

    def embed(self, texts: list[str]) -> NDArray[np.float32]:
        self.given += texts
        return np.eye(4, dtype=np.float32)[[len(text) % 4 for text in texts]]


def test_a_vector_file_embeds_each_text_once_also_after_it_was_closed(tmp_path: Path) -> None:
    embedder, path = Counting(), tmp_path / "vectors"
    VectorFile(path, 4).fill(["a", "bb", "a"], embedder)
    again = VectorFile(path, 4)
    again.fill(["bb", "ccc"], embedder)
    assert embedder.given == ["a", "bb", "ccc"]
    assert again["bb"].tolist() == [0, 0, 1, 0]
    assert "ccc" in again
    assert "d" not in again
    with pytest.raises(InputError, match="no unit vectors of dimension 7"):
        VectorFile(path, 7)


def material() -> tuple[list[Question], list[Paragraph]]:
    gold = paragraph("Mira Kostova", "Mira Kostova was born in Plovdiv.", support=(0,))
    film = paragraph("Arrowdale", "Arrowdale is a film by Mira Kostova.", support=(0,))
    pool = [Paragraph(title=name, sentences=(topics[name][:900],)) for name in ("assert", "break", "del", "while")]
    return [asked("Where was the director of Arrowdale born?", gold, film)], pool


@pytest.mark.parametrize("text_only", [False, True])
def test_search_grows_one_bank_and_finds_the_gold_by_every_way(
    text_only: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_child", search.run_task)  # a process of its own takes seconds to start
    questions, pool = material()
    (small, large) = search.measure(
        questions, pool, [3000, 600], tmp_path / "vectors", flat_below=20, text_only=text_only, scratch=tmp_path
    )
    assert 600 <= small.tokens < large.tokens < 3500
    assert small.real_share == 1 > large.real_share
    assert small.index == "flat"
    assert large.index.startswith("ivf") or large.measured_recall < 0.99
    for row in (small, large):
        assert row.flat_at_32 == row.exact_at_32 == 1.0
        assert row.approximate_over_flat > 0
        assert row.ingest_peak_mib > 100 < row.ask_peak_mib
    assert [entry.name for entry in tmp_path.iterdir()] == ["vectors"]


def test_a_copy_is_near_its_original_and_cut_where_that_was(tmp_path: Path, default_embedder: Embedder) -> None:
    embedder = RecordedEmbedder(DEFAULT_EMBEDDER, tmp_path / "vectors")
    passages = ["Anna Holm kept the lighthouse.\n", "Ships came by."]
    line = '{"gold": false, "passages": ["Anna Holm kept the lighthouse.\\n", "Ships came by."], "tokens": 12}\n'
    (tmp_path / "material").write_text(line)
    first, second, third = documents(tmp_path / "material", 50)
    assert first.text == "".join(passages)
    assert second.text != third.text
    cut = [second.text[start:end] for start, end in embedder.passages(second.text)]
    assert [part.partition("] ")[2] for part in cut] == passages
    cosines = (embedder.embed(passages) * embedder.embed(cut)).sum(axis=1)
    np.testing.assert_allclose(cosines, 1 / np.sqrt(1 + NOISE**2), atol=0.05)
    assert np.array_equal(embedder.embed(cut), embedder.embed(cut))


def test_a_paragraph_of_several_chunks_is_not_copied(tmp_path: Path) -> None:
    long = '{"gold": false, "passages": ["one", "two"], "tokens": 1020}\n'
    short = '{"gold": false, "passages": ["three"], "tokens": 10}\n'
    (tmp_path / "material").write_text(long + short)
    assert [d.document_id for d in documents(tmp_path / "material", 1050)] == ["0.0", "0.1", "1.1", "2.1"]
    (tmp_path / "material").write_text(long)
    with pytest.raises(InputError, match="no paragraph can be copied to fill 1050 tokens up"):
        list(documents(tmp_path / "material", 1050))


def test_storage_counts_every_byte_once() -> None:
    model = backbone()
    bf16, int8 = storage.measure(model, DEFAULT_EMBEDDER, LONG, tokens=9000, ratios=[4], slots=["bf16", "int8"])
    # 3 layers, 2 heads, 16 numbers, keys and values, a slot of 4 tokens.
    exact = 3 * 2 * 16 * 2 * 2 / 4 * 1e6 / 2**20
    assert exact < bf16.slots < 1.1 * exact
    assert 0.5 < int8.slots / bf16.slots < 0.6
    assert bf16.text < bf16.source
    assert (bf16.embeddings, bf16.text) == (int8.embeddings, int8.text)
    assert 0 < bf16.index < bf16.embeddings
    assert bf16.total == pytest.approx(bf16.slots + bf16.text + bf16.embeddings + bf16.index + bf16.catalogue_rest)
    with pytest.raises(InputError, match=r"the texts have \d+ tokens, --tokens asks for"):
        storage.measure(model, DEFAULT_EMBEDDER, LONG, tokens=10**7, ratios=[4], slots=["bf16"])
