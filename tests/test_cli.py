"""The command line as a user runs it: real files, the real default model, in processes of their own."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from pydoc_data.topics import topics

import pytest

from core.cli import main
from core.memory_bank import MemoryBank
from core.weights import quiet_loading

FOLDER = {"loops/while.txt": topics["while"], "loops/break.md": topics["break"], "assert.txt": topics["assert"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("texts")
    for name, text in FOLDER.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(text.encode())
    return root


@pytest.fixture(scope="module")
def bank(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("banks") / "bank"
    run = subprocess.run(
        [sys.executable, "-m", "core", "ingest", folder, "--bank", path, "--chunk-tokens", "128"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "3 documents (0 unchanged)" in run.stderr
    return path


class Ran:
    """What one call of the command line gave."""

    def __init__(self, code: int, out: str, error: str) -> None:
        self.code, self.out, self.error = code, out, error


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[object]:
    """Run the command line in this process, where the model is loaded already."""

    def call(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["compressed-memory", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capsys.readouterr()
        code = exit_.value.code
        return Ran(code if isinstance(code, int) else 0, captured.out, captured.err)

    return call


def assert_refused(ran: Ran, *said: str) -> None:
    """One line that says what is wrong, and exit code 2."""
    assert ran.code == 2
    assert ran.out == ""
    lines = ran.error.strip().splitlines()
    assert len(lines) == 1, ran.error
    assert lines[0].startswith("error: ")
    for part in said:
        assert part in lines[0]


def test_ask_json_prints_one_object_whose_sources_are_in_the_files(cli, bank: Path, folder: Path) -> None:
    ran = cli("ask", "Which exception does assert raise?", "--bank", bank, "--json")
    assert ran.code == 0
    said = json.loads(ran.out)
    assert list(said) == ["answer", "sources", "working_memory", "steps", "usage"]
    assert said["answer"]
    assert said["sources"]
    for source in said["sources"]:
        text = (folder / source["document_id"]).read_bytes().decode()
        assert text[source["start"] : source["end"]] == source["text"]
        assert 0 <= source["gate"] <= 1
    for step in said["steps"]:
        assert {"chunk_id", "gate", "update", "callback_query", "recalled"} <= step.keys()
    assert {"tokens_read", "slots_read", "tokens_written", "model_calls", "seconds"} == said["usage"].keys()
    # The answer, and a call for each chunk that the tagger does not rule out.
    assert 2 <= said["usage"]["model_calls"] <= len(said["steps"]) + 1


def test_a_new_process_gives_the_same_answer_in_both_forms(bank: Path) -> None:
    # Both are new: in bf16 two tokens may be likeliest by turns in a process that has computed other things before.
    for form in ("raw", "compressed"):
        arguments = ["ask", "What does break end?", "--bank", bank, "--json", "--form", form, "--top-k", "1"]
        command = [sys.executable, "-m", "core", *arguments]
        runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(2)]
        one, other = (json.loads(run.stdout) for run in runs)
        del one["usage"]["seconds"], other["usage"]["seconds"]
        assert one == other


def test_ask_without_json_shows_answer_sources_steps_and_cost(cli, bank: Path) -> None:
    ran = cli("ask", "Which exception does assert raise?", "--bank", bank)
    assert ran.code == 0
    assert ran.out.startswith("Answer: ")
    assert "assert.txt [" in ran.out
    assert "tokens" in ran.out
    assert "opened assert.txt" in ran.error


def test_trace_answers_as_ask_does_and_writes_a_page(cli, bank: Path, tmp_path: Path) -> None:
    question, page = "Which exception does assert raise?", tmp_path / "page.html"
    said = json.loads(cli("ask", question, "--bank", bank, "--json").out)
    ran = cli("trace", question, "--bank", bank, "--out", page)
    assert ran.code == 0
    assert ran.out.startswith(f"Answer: {said['answer']}\n")
    assert f"Wrote {page}: {page.stat().st_size:,} bytes" in ran.error
    text = page.read_text("utf-8")
    assert [f'id="step-{n}"' in text for n in range(1, len(said["steps"]) + 2)] == [True] * len(said["steps"]) + [False]
    for bad in ("page.txt", "nowhere/page.html"):
        assert_refused(cli("trace", question, "--bank", bank, "--out", tmp_path / bad), bad)
    assert_refused(cli("trace", " ", "--bank", bank, "--out", tmp_path / "none.html"), "the question is ' '")
    assert_refused(cli("trace", "What?", "--bank", bank, "--namespace", "bob", "--out", page), "no namespace 'bob'")
    assert page.read_text("utf-8") == text
    assert [entry.name for entry in tmp_path.iterdir()] == ["page.html"]


def test_asked_of_documents_it_answers_from_them_alone(cli, bank: Path, tmp_path: Path) -> None:
    question, only = "Which exception does assert raise?", ("--document", "loops/while.txt")
    every = ("--bank", bank, "--threshold", "0")
    said = json.loads(cli("ask", question, *every, *only, "--document", "loops/break.md", "--json").out)
    assert {step["chunk_id"] for step in said["steps"]}
    assert {source["document_id"] for source in said["sources"]} <= {"loops/while.txt", "loops/break.md"}
    page = tmp_path / "page.html"
    assert cli("trace", question, *every, *only, "--out", page).code == 0
    text = page.read_text("utf-8")
    assert "loops/while.txt" in text
    assert "assert.txt" not in text
    assert_refused(cli("ask", question, *every, "--document", "while.txt"), "no document 'while.txt'")


def test_ingesting_again_encodes_nothing(cli, bank: Path, folder: Path) -> None:
    ran = cli("ingest", folder, "--bank", bank)
    assert ran.code == 0
    assert "3 documents (3 unchanged): 0 chunks" in ran.error


def test_show_lists_documents_and_what_made_the_bank(cli, bank: Path) -> None:
    ran = cli("show", "--bank", bank)
    assert ran.code == 0
    for part in ("loops/while.txt", "loops/break.md", "SmolLM2-135M-Instruct", "in_place", "slot bytes", "weights"):
        assert part in ran.out


def test_show_says_what_the_bytes_are(cli, bank: Path) -> None:
    # While a bank is open its catalogue has two files beside it: kept open here, they are there for both to count.
    with closing(MemoryBank(path=bank)) as held:
        assert held.fingerprint.encode
        out = cli("show", "--bank", bank).out
        files = sum(file.stat().st_size for file in bank.rglob("*") if file.is_file())
    table = out[out.index("Bytes by kind") :]
    rows = [re.split(r"\s*[│┃]\s*", line)[1:3] for line in table.splitlines() if re.match("[│┃]", line)]
    sizes = {kind: int(size.replace(",", "")) for kind, size in rows[1:]}
    on_disk = sizes.pop("on disk")
    assert on_disk == files
    assert sum(sizes.values()) == on_disk
    assert sizes["slots"] > sizes["embeddings"] > 0 < sizes["source text, compressed"] < sum(map(len, FOLDER.values()))


def test_text_only_keeps_no_slots_and_is_asked_raw(cli, folder: Path, tmp_path: Path) -> None:
    bank = tmp_path / "bank"
    assert cli("ingest", folder / "assert.txt", "--bank", bank, "--text-only").code == 0
    assert cli("ingest", folder / "loops", "--bank", bank).code == 0  # as the bank has it
    shown = cli("show", "--bank", bank)
    assert re.search(r"encode\s+│ False", shown.out)
    assert list((bank / "slots").iterdir()) == []
    asked = cli("ask", "What does assert do?", "--bank", bank, "--json")
    assert json.loads(asked.out)["usage"]["slots_read"] == 0
    assert_refused(cli("ask", "What?", "--bank", bank, "--form", "compressed"), "form='compressed'", "keeps text only")


def test_a_file_alone_is_named_by_its_name(cli, folder: Path, tmp_path: Path) -> None:
    assert cli("ingest", folder / "loops/break.md", "--bank", tmp_path / "bank").code == 0
    assert "break.md" in cli("show", "--bank", tmp_path / "bank").out


BAD_FILES = {
    "empty": (b"", "is empty"),
    "blank": (b" \n\t\n", "is empty"),
    "binary": (b"\x7fELF\x00\x01", "is a binary file"),
    "latin": ("naïve café".encode("latin-1"), "is not UTF-8: byte 2 is 0xef"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_is_refused_and_nothing_is_written(cli, folder: Path, tmp_path: Path, kind: str) -> None:
    data, message = BAD_FILES[kind]
    bad = tmp_path / f"{kind}.txt"
    bad.write_bytes(data)
    assert_refused(cli("ingest", folder, bad, "--bank", tmp_path / "bank"), str(bad), message)
    assert not (tmp_path / "bank").exists()


def test_a_missing_path_and_a_folder_without_texts_are_refused(cli, tmp_path: Path) -> None:
    assert_refused(cli("ingest", tmp_path / "nowhere", "--bank", tmp_path / "bank"), "nowhere does not exist")
    (tmp_path / "bare").mkdir()
    assert_refused(cli("ingest", tmp_path / "bare", "--bank", tmp_path / "bank"), "holds no text")


def test_questions_that_cannot_be_asked_are_refused(cli, bank: Path, tmp_path: Path) -> None:
    assert_refused(cli("ask", " ", "--bank", bank), "the question is ' '")
    assert_refused(cli("ask", "What?", "--bank", bank, "--namespace", "bob"), "no namespace 'bob'; it has: 'default'")
    assert_refused(cli("ask", "What?", "--bank", tmp_path / "none"), "no memory bank at", "none")
    assert not (tmp_path / "none").exists()
    assert_refused(cli("show", "--bank", tmp_path / "none"), "no memory bank at")
    assert_refused(cli("ask", "What?", "--bank", bank, "--form", "liquid"), "form='liquid'")
    assert_refused(cli("ask", "What?", "--bank", bank, "--threshold", "7"), "threshold=7.0")


def test_a_bank_of_another_ratio_or_model_is_refused(cli, bank: Path, folder: Path, tmp_path: Path) -> None:
    from . import tiny_models

    assert_refused(cli("ingest", folder, "--bank", bank, "--ratio", "8"), "ratio 4, not 8")
    assert_refused(cli("ingest", folder, "--bank", tmp_path / "new", "--ratio", "3"), "ratio=3")
    assert not (tmp_path / "new").exists()
    other = tmp_path / "tiny"
    with quiet_loading():
        tiny_models.causal_lm().save_pretrained(other)
    tiny_models.tokenizer().save_pretrained(other)
    assert_refused(cli("ask", "What?", "--bank", bank, "--model", other), "weights")


def test_models_that_cannot_be_used_are_refused(cli, folder: Path, tmp_path: Path) -> None:
    gpt2 = tmp_path / "gpt2"
    gpt2.mkdir()
    (gpt2 / "config.json").write_text(json.dumps({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}))
    ran = cli("ingest", folder, "--bank", tmp_path / "bank", "--model", gpt2)
    assert_refused(ran, "not supported", "its family 'gpt2' is not among")
    (tmp_path / "void").mkdir()
    ran = cli("ingest", folder, "--bank", tmp_path / "bank", "--model", tmp_path / "void")
    assert_refused(ran, "without config.json")
    assert not (tmp_path / "bank").exists()


def test_a_model_that_is_not_on_this_machine_is_refused_offline(cli, folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    ran = cli("ingest", folder, "--bank", tmp_path / "bank", "--model", "nobody/such-model")
    assert_refused(ran, "'nobody/such-model'", "Offline?")
    assert not (tmp_path / "bank").exists()


def test_wrong_usage_is_the_usual_error(cli) -> None:
    ran = cli("ingest")
    assert ran.code == 2
    assert "Usage" in ran.error


def test_delete_removes_documents_then_a_namespace_and_compact_says_what_it_gave_back(
    cli, bank: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "bank"
    shutil.copytree(bank, copy)
    ran = cli("delete", "--bank", copy, "--document", "loops/break.md", "--document", "assert.txt")
    assert ran.code == 0
    said = re.fullmatch(
        r"Removed from namespace default: loops/break.md, assert.txt. ([\d,]+) bytes freed.\n", ran.error
    )
    assert said
    assert int(said[1].replace(",", "")) > 1_000_000  # slots of two documents
    assert "break.md" not in cli("show", "--bank", copy).out
    assert re.fullmatch(r"[\d,]+ bytes before, [\d,]+ after\.\n", cli("compact", "--bank", copy).error)
    ran = cli("delete", "--bank", copy, "--namespace", "default")
    assert ran.code == 0
    assert ran.error.startswith("Removed from namespace default: all of it, 1 documents. ")
    ran = cli("delete", "--bank", copy, "--namespace", "default")
    assert (ran.code, ran.error.count("\n")) == (2, 1)
    assert "no namespace 'default'" in ran.error


def test_deletion_and_compaction_load_no_model(cli, tmp_path: Path) -> None:
    from .test_memory_bank import FINGERPRINT, MemoryBank, encoded, record

    bank = MemoryBank(FINGERPRINT, tmp_path / "bank")  # of a model that is nowhere
    chunks = [encoded(name, "alice", seed) for seed, name in enumerate("xyz")]
    bank.commit("alice", chunks, [record(chunk.text, chunk) for chunk in chunks])
    bank.close()
    assert cli("delete", "--bank", tmp_path / "bank", "--namespace", "alice", "--document", "y").code == 0
    assert cli("compact", "--bank", tmp_path / "bank").code == 0
    assert [name for name, *_ in MemoryBank(path=tmp_path / "bank").documents("alice")] == ["x", "z"]
    for command in (("delete", "--document", "x"), ("compact",)):
        assert_refused(cli(*command, "--bank", tmp_path / "none"), "no memory bank at")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give --document ID, or --namespace NS"),
        (("--namespace", "defualt"), "no namespace 'defualt'; it has: 'default'"),
        (("--document", "nothing"), "has no document 'nothing'"),
        (("--document", "assert.txt", "--document", "nothing"), "has no document 'nothing'"),
    ],
)
def test_a_deletion_that_names_nothing_that_is_there_removes_nothing(
    cli, bank: Path, arguments: tuple[str, ...], said: str
) -> None:
    before = cli("show", "--bank", bank).out
    ran = cli("delete", "--bank", bank, *arguments)
    assert (ran.code, ran.error.count("\n")) == (2, 1)
    assert said in ran.error
    assert cli("show", "--bank", bank).out == before
