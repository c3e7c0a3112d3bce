"""Questions made from Python's own reference."""

from pathlib import Path

from core.training.material import read_material
from core.training.sample_data import sample_questions, write_sample


def test_every_answer_stands_in_the_supporting_sentence_and_the_gap_is_open() -> None:
    questions, _ = sample_questions()
    singles = [q for q in questions if len(q.gold) == 1]
    assert len(singles) > 200
    for question in singles:
        (sentence,) = question.gold[0].supporting
        assert f'"{question.answers[0]}"' in sentence
        assert "____" in question.question


def test_pairs_need_two_paragraphs() -> None:
    pairs = [q for q in sample_questions()[0] if q.type == "pair"]
    assert len(pairs) > 100
    assert all(len({p.text for p in q.gold}) == 2 and len(q.paragraphs) == 6 for q in pairs)


def test_the_pool_answers_no_question() -> None:
    questions, pool = sample_questions()
    gold = {p.text for q in questions for p in q.gold}
    assert len(pool) > 100
    assert not gold & {p.text for p in pool}


def test_the_same_seed_writes_the_same_files_which_training_can_read(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_sample(tmp_path / name)
    write_sample(tmp_path / "c", seed=1)
    files = ("train/reference.jsonl.gz", "pool/wikipedia.jsonl.gz")
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)
    assert (tmp_path / "a" / files[0]).read_bytes() != (tmp_path / "c" / files[0]).read_bytes()
    material = read_material(tmp_path / "a")
    written = {*material.train, *material.held_out}
    assert written <= set(sample_questions()[0])
    assert list(material.pool) == sample_questions()[1]
