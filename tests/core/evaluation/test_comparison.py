"""The run itself: what is asked, in which order, how it stops and how it goes on. Only the systems are made up."""

import gc
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from core.backbone import Backbone
from core.chunking import Span
from core.errors import InputError
from core.evaluation.comparison import Comparison, Plan, Task
from core.evaluation.cost import Cost
from core.evaluation.haystack import Pool
from core.evaluation.records import RECORDS, Record, Records, RunSettings
from core.evaluation.systems.system import Outcome
from core.ingest import Document
from tests import tiny_models

from .made import POOL, QUESTIONS

SETTINGS = RunSettings(
    data=("made",),
    pool=(),
    seed=0,
    shared_haystack=False,
    questions=None,
    gap=None,
    model="m",
    weights="w",
    embedder="e",
    device="cpu",
    dtype="torch.float32",
)
TASK = Task("made", QUESTIONS, Pool(POOL))


class Finder:
    """Finds the document with a word, cites it whole, and answers with its title."""

    def __init__(self, word: str = "Brenfield", stop_after: int = 1000) -> None:
        self.word, self.left = word, stop_after
        self.taken_in, self.asked, self.open = 0, list[tuple[int, str]](), 0

    def take_in(self, documents: Sequence[Document]) -> "Found":
        self.taken_in += 1
        self.open += 1
        return Found(self, documents)


class Found:
    def __init__(self, finder: Finder, documents: Sequence[Document]) -> None:
        self.finder, self.documents = finder, documents
        self.cost = Cost(tokens_encoded=7, seconds={"encode": 2.0})

    def ask(self, question: str) -> Outcome:
        if self.finder.left == 0:
            raise KeyboardInterrupt
        self.finder.left -= 1
        self.finder.asked.append((len(self.documents), question))
        (name, text) = next(((d.document_id, d.text) for d in self.documents if self.finder.word in d.text), ("1", ""))
        cost = Cost(tokens_read=5, seconds={"answer": 1.0})
        return Outcome("Jonas Ark" if text else "", cost, ((name, Span(0, len(text))),) if text else (), (name,))

    def close(self) -> None:
        self.finder.open -= 1


@pytest.fixture(scope="module")
def tiny() -> Iterator[Backbone]:
    gc.freeze()  # each record collects garbage, and what is loaded by now is none
    yield tiny_models.backbone()
    gc.unfreeze()


def plan(shared: bool = False, **systems: object) -> Plan:
    return Plan((TASK,), (5, 9), systems, shared=shared)


def test_every_question_is_put_to_every_system_at_every_length_once(tiny: Backbone, tmp_path: Path) -> None:
    one, two, seen = Finder(), Finder("Arrowdale"), list[Record]()
    records = Records(tmp_path, SETTINGS)
    assert Comparison(plan(one=one, two=two), tiny, records, step=seen.append).run()
    assert len(seen) == len({r.key for r in records.all}) == 8
    assert one.asked == two.asked == [(n, q.question) for q in QUESTIONS for n in (5, 9)]  # a question at a time
    assert (one.taken_in, one.open) == (4, 0)
    lines = [json.loads(line) for line in (tmp_path / RECORDS).read_text().splitlines()]
    assert [line["question_id"] for line in lines] == ["arrowdale"] * 4 + ["mill"] * 4


def test_a_record_says_what_came_of_it(tiny: Backbone, tmp_path: Path) -> None:
    records = Records(tmp_path, SETTINGS)
    Comparison(plan(one=Finder()), tiny, records).run()
    right, wrong = (next(r for r in records.all if r.question_id == name) for name in ("mill", "arrowdale"))
    assert (right.scores.exact_match, right.scores.sub_exact_match) == (1.0, 1.0)
    assert (right.cited, right.source_precision, right.gold_read) == (1, 1.0, 1.0)
    assert (wrong.prediction, wrong.scores.sub_exact_match, wrong.source_precision) == ("", 0.0, None)
    assert wrong.gold_read in (0.0, 0.5)
    assert right.taking_in.seconds == {"encode": 2.0}
    assert right.asking.tokens_read == 5
    assert 30 < right.tokens < 500
    assert 0 < right.start_bytes <= right.peak_bytes


def test_an_interrupted_run_goes_on_where_it_was(tiny: Backbone, tmp_path: Path) -> None:
    stopping = Finder(stop_after=3)
    with pytest.raises(KeyboardInterrupt):
        Comparison(plan(one=stopping), tiny, Records(tmp_path, SETTINGS)).run()
    assert stopping.open == 0  # what was taken in is let go of
    with (tmp_path / RECORDS).open("a") as file:
        file.write('{"data": "made", "sys')  # the line that was being written
    records, again = Records(tmp_path, SETTINGS), Finder()
    assert len(records.all) == 3
    assert Comparison(plan(one=again), tiny, records).run()
    assert again.asked == [(9, QUESTIONS[1].question)]
    assert len(Records(tmp_path, SETTINGS).all) == 4


def test_a_longer_plan_does_only_what_is_new(tiny: Backbone, tmp_path: Path) -> None:
    Comparison(plan(one=Finder()), tiny, Records(tmp_path, SETTINGS)).run()
    one, two = Finder(), Finder()
    Comparison(plan(one=one, two=two), tiny, Records(tmp_path, SETTINGS)).run()
    assert (len(one.asked), len(two.asked)) == (0, 4)


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    Records(tmp_path, SETTINGS)
    with pytest.raises(InputError, match=r"other settings: seed 0, now 5; weights 'w', now 'v'"):
        Records(tmp_path, SETTINGS.model_copy(update={"seed": 5, "weights": "v"}))
    (tmp_path / RECORDS).write_text("no result\n")
    with pytest.raises(InputError, match="line 1 is no result"):
        Records(tmp_path, SETTINGS)


def test_nothing_is_begun_after_the_time_is_up(tiny: Backbone, tmp_path: Path) -> None:
    for shared in (False, True):
        finder = Finder()
        run = Comparison(plan(shared, one=finder), tiny, Records(tmp_path / str(shared), SETTINGS), deadline=0.0)
        assert not run.run()
        assert finder.taken_in == 0


def test_a_shared_haystack_is_taken_in_once_and_asked_everything(tiny: Backbone, tmp_path: Path) -> None:
    one, records = Finder(), Records(tmp_path, SETTINGS)
    assert Comparison(plan(True, one=one), tiny, records).run()
    assert (one.taken_in, one.open) == (2, 0)
    assert one.asked == [(n, q.question) for n in (5, 9) for q in QUESTIONS]
    right = next(r for r in records.all if r.question_id == "mill")
    assert (right.source_precision, right.gold_read) == (1.0, 1.0)


class Greedy(Finder):
    """Needs more memory than there is."""

    def take_in(self, documents: Sequence[Document]) -> Found:
        if self.word == "taking in":
            raise torch.OutOfMemoryError
        return super().take_in(documents)


class GreedyFound(Found):
    def ask(self, question: str) -> Outcome:
        raise torch.OutOfMemoryError


def test_running_out_of_memory_scores_nothing_and_is_said(tiny: Backbone, tmp_path: Path, monkeypatch) -> None:
    records = Records(tmp_path, SETTINGS)
    Comparison(plan(one=Greedy("taking in")), tiny, records).run()
    monkeypatch.setattr(Found, "ask", GreedyFound.ask)
    Comparison(plan(two=Greedy()), tiny, records).run()
    assert [r.failed for r in records.all] == ["out of memory taking the text in"] * 4 + ["out of memory"] * 4
    assert {(r.scores.sub_exact_match, r.gold_read) for r in records.all} == {(0.0, 0.0)}


def test_any_other_error_ends_the_run(tiny: Backbone, tmp_path: Path, monkeypatch) -> None:
    def broken(self: Found, question: str) -> Outcome:
        raise ZeroDivisionError

    monkeypatch.setattr(Found, "ask", broken)
    with pytest.raises(ZeroDivisionError):
        Comparison(plan(one=Finder()), tiny, Records(tmp_path, SETTINGS)).run()
