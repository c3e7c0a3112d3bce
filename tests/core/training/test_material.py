"""What a run reads, what it holds out, and what it says of files that cannot be used."""

import gzip
import json
from pathlib import Path

import pytest

from core.errors import InputError
from core.questions import Paragraph, Question
from core.training.material import HELD_OUT_SHARE, Material, is_held_out, read_material
from core.training.sample_data import write_sample


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder)
    return folder


@pytest.fixture(scope="module")
def material(sample: Path) -> Material:
    return read_material(sample)


def gold(questions: tuple[Question, ...]) -> set[str]:
    return {paragraph.text for question in questions for paragraph in question.gold}


def write_questions(folder: Path, count: int, name: str = "made.jsonl") -> None:
    """Write questions of which each shares its second gold paragraph with the next one's first."""
    texts = [f"Sentence {i} says so." for i in range(count + 1)]
    lines = []
    for i in range(count):
        paragraphs = [{"title": "", "sentences": [texts[i + n]], "support": [0]} for n in (0, 1)]
        row = {"id": str(i), "dataset": "made", "question": f"Q{i}?", "answers": ["a"], "paragraphs": paragraphs}
        lines.append(json.dumps(row))
    (folder / "train").mkdir(parents=True, exist_ok=True)
    (folder / "train" / name).write_text("\n".join(lines) + "\n")


def test_no_gold_paragraph_is_on_both_sides(material: Material, tmp_path: Path) -> None:
    assert material.held_out
    assert not gold(material.train) & gold(material.held_out)
    write_questions(tmp_path, 600)  # where dropping by the first gold paragraph alone would not do
    chained = read_material(tmp_path)
    assert len(chained.held_out) >= 3
    assert not gold(chained.train) & gold(chained.held_out)
    # Each held-out question shares its paragraphs with two others at most.
    assert len(chained.train) + len(chained.held_out) < 600
    assert len(chained.train) + 3 * len(chained.held_out) >= 600


def test_what_is_held_out_does_not_change_when_a_file_is_added(tmp_path: Path) -> None:
    write_questions(tmp_path, 600)
    before = {q.id for q in read_material(tmp_path).held_out}
    write_questions(tmp_path, 900, "more.jsonl")
    assert before <= {q.id for q in read_material(tmp_path).held_out}


def test_about_the_share_of_many_paragraphs_is_held_out_and_some_of_a_few(material: Material) -> None:
    share = sum(is_held_out(f"paragraph {i}") for i in range(20_000)) / 20_000
    assert share == pytest.approx(HELD_OUT_SHARE, rel=0.2)
    # A share of 2% of 270 paragraphs may be none.
    assert 3 <= len(gold(material.held_out)) < 0.2 * len(gold(material.train))


def test_the_pool_is_read_where_there_is_one(material: Material, tmp_path: Path) -> None:
    assert material.pool
    assert all(isinstance(p, Paragraph) and not p.support for p in material.pool)
    write_questions(tmp_path, 10)
    assert read_material(tmp_path).pool == ()


def test_a_folder_without_training_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"{tmp_path} has no train/\*\.jsonl"):
        read_material(tmp_path)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("train/bad.jsonl", '{"id": "1"\n', r"bad\.jsonl line 1: "),
        ("train/bad.jsonl", '{"id": "1", "dataset": "d"}\n', r"bad\.jsonl line 1: question"),
        ("pool/wikipedia.jsonl", '{"title": "t", "sentences": 7}\n', r"wikipedia\.jsonl line 1: sentences is '7'"),
    ],
)
def test_a_line_that_cannot_be_read_is_named_with_its_file(tmp_path: Path, file: str, text: str, message: str) -> None:
    write_questions(tmp_path, 10)
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    with pytest.raises(InputError, match=message):
        read_material(tmp_path)


def test_a_file_that_is_not_what_its_name_says_is_named(tmp_path: Path) -> None:
    write_questions(tmp_path, 10)
    (tmp_path / "train" / "torn.jsonl.gz").write_bytes(gzip.compress(b"x" * 5000)[:-9])
    with pytest.raises(InputError, match=r"torn\.jsonl\.gz line 1"):
        read_material(tmp_path)
