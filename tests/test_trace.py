"""A question's run as a page: it changes no answer, shows what happened, and runs nothing that a document says."""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import pytest

from core import trace_page
from core.embedder import Embedder
from core.embedder_head import find_head
from core.engine import Engine
from core.errors import InputError, StorageError
from core.evidence import Tagger
from core.ingest import Document
from core.settings import CompressionSettings, RecallSettings
from core.trace import Trace
from core.weights import DEFAULT_EMBEDDER

from . import tiny_models
from .test_recall import HOPS, QUESTION, READER, OwnModel, ScriptedGenerator, narrow

HOSTILE = """</script><script>document.title = "ran"</script><img src=x onerror='document.title = "ran"'>
<a href="https://example.org/">a</a> <!-- & ]]> </div> {{ 7 * 7 }} "quoted" 'so' \u2028 \u202e"""
HOSTILE_ID = """<script>document.title = "ran"</script>"onmouseover="document.title='ran'".txt"""


@pytest.fixture(scope="module")
def engine(default_embedder: Embedder) -> Engine:
    engine = Engine(tiny_models.backbone(), default_embedder, CompressionSettings(chunk_tokens=192))
    engine.add([Document(name, topics[name]) for name in HOPS])
    engine.add([Document(HOSTILE_ID, HOSTILE), Document("tame", "A plain line.\n")], "<b>ns</b>")
    return engine


@pytest.fixture(scope="module")
def hops(engine: Engine) -> Trace:
    """A run that writes notes and calls a passed-over chunk back."""
    return engine.trace(QUESTION, settings=narrow(), writer=ScriptedGenerator(engine.backbone, READER))


@pytest.fixture(scope="module")
def hostile(engine: Engine) -> Trace:
    """A run over documents that try to get out of the page; each is read, and its last line noted."""
    settings = RecallSettings(threshold=0, raw_passages=None)
    return engine.trace(f"What is {HOSTILE}", "<b>ns</b>", settings, writer=OwnModel())


class Page(HTMLParser):
    """What a browser would make of a page: its elements, and the text inside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {}
        self.text = ""
        self._open = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = tag
        if tag in ("script", "style"):
            self.inside.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open in ("script", "style"):
            self.inside[self._open][-1] += data
        else:
            self.text += data

    def values(self, name: str) -> list[str]:
        return [attributes[name] or "" for _, attributes in self.elements if name in attributes]


@pytest.mark.parametrize("settings", [{"form": "raw"}, {"form": "compressed"}, {"form": "raw", "callback": False}])
def test_a_traced_question_is_answered_as_without(engine: Engine, settings: dict[str, object]) -> None:
    chosen = RecallSettings(top_k=2, max_steps=2, update_tokens=16, answer_tokens=16, **settings)
    asked, traced = engine.ask(QUESTION, settings=chosen), engine.trace(QUESTION, settings=chosen).answer
    assert asked.steps
    for name in ("text", "sources", "memory", "steps"):
        assert getattr(asked, name) == getattr(traced, name)
    assert asked.usage.model_calls == traced.usage.model_calls


def test_what_the_gate_gave_is_kept_for_each_moment(hops: Trace) -> None:
    assert [step.called_back for step in hops.answer.steps].count(True) >= 1
    rows = {chunk.chunk_id: row for row, chunk in enumerate(hops.chunks)}
    assert len(rows) == len(hops.chunks) > len(hops.answer.steps)
    for row, (step, chosen) in enumerate(zip(hops.answer.steps, hops.chosen_by, strict=True)):
        scoring = hops.scorings[chosen]
        assert scoring.scored.probabilities[rows[step.chunk.chunk_id]] == np.float32(step.gate)
        # The scan goes by what a callback was given, too, while nothing changed.
        assert scoring.chunks_read == row if step.called_back else scoring.chunks_read <= row
        assert scoring.stage == "callback" or not step.called_back
    assert hops.scorings[0].scored.notes == ()
    assert any(not np.array_equal(hops.scorings[0].scored.probabilities, s.scored.probabilities) for s in hops.scorings)
    assert (hops.settings.form, hops.settings.gate) == ("raw", "similarity")
    for before, after in zip(hops.answer.steps, hops.answer.steps[1:], strict=False):
        assert set(before.memory.notes) <= {*after.memory.notes, *after.memory.past}
    assert hops.answer.steps[-1].memory == hops.answer.memory


def test_the_page_shows_steps_memory_and_callback_and_each_link_leads_somewhere(hops: Trace) -> None:
    page = Page(trace_page.render(hops))
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    links = page.values("href")
    assert {link for link in links if not link.startswith("#")} == set()
    assert {link[1:] for link in links} <= set(ids)
    assert {f"step-{number}" for number in range(1, len(hops.answer.steps) + 1)} <= set(ids)
    folded = " ".join(page.text.split())
    for said in (QUESTION, hops.answer.text, "called back", "looked back with what it had just noted", "brought back"):
        assert said in folded
    for note in hops.answer.sources:
        assert note.text in folded
    assert str(hops.fingerprint.ratio) in folded


def test_what_a_second_look_chose_is_shown_with_what_it_is_likely(hops: Trace) -> None:
    judging = Embedder(tagger=find_head(Tagger, "default", DEFAULT_EMBEDDER))
    with Engine(tiny_models.backbone(), judging, CompressionSettings(chunk_tokens=192, encode=False)) as engine:
        engine.add([Document(name, topics[name]) for name in ("pass", "break", "with")])
        settings = RecallSettings(second_look=True, update_tokens=8, answer_tokens=8)
        trace = engine.trace("What happens when a pass statement is executed?", settings=settings)
    notes, text = trace.answer.memory.notes, trace_page.render(trace)
    page = Page(text)
    assert notes
    folded, ids = " ".join(page.text.split()), page.values("id")
    shown = folded[folded.index("Answered from") : folded.index("How it was asked")]
    places = [shown.index(f"{note.text} P(evidence) {note.odds:.2f}") for note in notes]
    assert places == sorted(places)
    assert {link[1:] for link in page.values("href")} <= set(ids)
    assert len(ids) == len(set(ids))
    assert "Answered from" not in Page(trace_page.render(hops)).text


def test_the_quoted_span_is_marked_in_the_whole_text_of_its_chunk(hops: Trace) -> None:
    numbers = {(n.document_id, n.span.start, n.span.end): i for i, n in enumerate(hops.answer.sources, 1)}
    found = 0
    for row, step in enumerate(hops.answer.steps):
        parts = trace_page._step(hops, row, trace_page._numbers(hops))["segments"]
        assert "".join(part.text for part in parts) == hops.texts[step.chunk.chunk_id]
        for note in hops.answer.sources:
            number = numbers[note.document_id, note.span.start, note.span.end]
            if note.chunk_id == step.chunk.chunk_id:
                assert "".join(part.text for part in parts if number in part.notes) == note.quote
                assert [number in part.begins for part in parts].count(True) == 1
                assert all(part.source for part in parts if number in part.notes)
                found += 1
    assert found == len(hops.answer.sources) > 0


def test_nothing_that_a_document_an_id_or_a_question_says_becomes_part_of_the_page(hostile: Trace) -> None:
    assert len(hostile.answer.steps) == 2
    assert hostile.answer.sources
    text = trace_page.render(hostile)
    page = Page(text)
    tags = [tag for tag, _ in page.elements]
    assert (tags.count("script"), tags.count("style"), tags.count("img"), tags.count("b")) == (2, 1, 0, 0)
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert not {"src", "srcset", "action", "data", "style"} & {name for _, a in page.elements for name in a}
    assert all(link.startswith("#") for link in page.values("href"))
    for said in (HOSTILE_ID, HOSTILE.splitlines()[0], "{{ 7 * 7 }}"):
        assert said in page.text
    data = json.loads(page.inside["script"][0])
    assert HOSTILE_ID in data["documents"]


def test_the_policy_admits_this_script_and_this_style_and_nothing_else(hostile: Trace) -> None:
    page = Page(trace_page.render(hostile))
    (policy,) = [a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]

    def hashed(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    style, script = hashed(page.inside["style"][0]), hashed(page.inside["script"][1])
    assert policy == (
        f"default-src 'none'; style-src {style}; script-src {script}; base-uri 'none'; form-action 'none'"
    )


@pytest.mark.parametrize("most", [12_000, 5])
def test_the_strip_has_a_cell_for_each_chunk_or_shares_them_out(
    hops: Trace, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace_page, "MAX_CELLS", most)
    strip = trace_page._strip(hops)
    share, cells = strip["share"], len(strip["first"])
    assert cells <= most
    assert (share == 1) == (most > len(hops.chunks))
    assert {len(strip[name]) for name in ("start", "end")} == {cells}
    for given, view in zip(
        [hops.highest, *(s.scored.probabilities for s in hops.scorings)], strip["views"], strict=True
    ):
        shown = np.frombuffer(base64.b64decode(view["p"]), dtype=np.uint8) / 255
        wanted = [given[row : row + share].max() for row in range(0, len(given), share)]
        assert np.abs(shown - wanted).max() <= 0.5 / 255 + 1e-6
    for opened, step in zip(strip["opened"], hops.answer.steps, strict=True):
        cell = opened["cell"]
        assert step.chunk in hops.chunks[cell * share : (cell + 1) * share]
        assert strip["documents"][strip["first"][cell]] == hops.chunks[cell * share].document_id


def test_a_run_that_opens_nothing_is_a_page_too(engine: Engine, tmp_path: Path) -> None:
    engine.trace("zxqv", settings=RecallSettings(threshold=0.999)).write(tmp_path / "none.html")
    assert "opened nothing" in (tmp_path / "none.html").read_text("utf-8")


def test_a_page_is_written_whole_or_not_at_all(hops: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for bad, said in (("trace.txt", "does not end in .html"), ("none/trace.html", "is no folder")):
        with pytest.raises(InputError, match=said):
            hops.write(tmp_path / bad)
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        hops.write(tmp_path / "folder.html")
    page = tmp_path / "trace.html"
    page.write_text("before")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", refuse)
        with pytest.raises(StorageError, match="No space left"):
            hops.write(page)
    assert page.read_text() == "before"
    hops.write(page)
    assert page.read_text("utf-8") == trace_page.render(hops)
    assert {entry.name for entry in tmp_path.iterdir()} == {"trace.html", "folder.html"}


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium on this machine")
@pytest.mark.parametrize("which", ["hops", "hostile"])
def test_the_script_runs_through_in_a_browser_and_nothing_else_does(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    request.getfixturevalue(which).write(tmp_path / "trace.html")
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--enable-logging=stderr",
    ]
    run = subprocess.run(
        ["chromium", *flags, "--virtual-time-budget=2000", "--dump-dom", (tmp_path / "trace.html").as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert re.search(r"<html[^>]* data-ready=\"true\"", run.stdout)
    assert "<title>Trace: " in run.stdout
    assert "CONSOLE" not in run.stderr  # neither an error nor a refusal by the policy
