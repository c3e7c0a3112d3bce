"""A namespace as one file comes back to the bit; a file of other hands does no harm."""

import hashlib
import json
import shutil
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from core.archive import export_namespace, import_namespace
from core.errors import BankError, ConflictError, InputError, StorageError, UnknownNamespaceError
from core.memory_bank import MemoryBank
from core.verification import verify

from .test_cli import assert_refused, cli  # noqa: F401 - a fixture
from .test_memory_bank import encoded
from .test_merge import ONE, TWO, built, digest

NAMES = ["one", "seven..", "nine....."]


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    return built(tmp_path / "bank", *ONE, *TWO)


@pytest.fixture
def file(bank: Path, tmp_path: Path) -> Path:
    assert export_namespace(bank, "a", tmp_path / "a.zip") == 2
    return tmp_path / "a.zip"


def test_a_namespace_comes_back_to_the_bit_and_leaves_nothing_beside(file: Path, bank: Path, tmp_path: Path) -> None:
    import_namespace(tmp_path / "new", file)
    source, new = MemoryBank(path=bank), MemoryBank(path=tmp_path / "new")
    assert [s.namespace for s in new.summaries()] == ["a"]
    assert new.records("a") == source.records("a")
    assert new.fingerprint == source.fingerprint
    for record in source.records("a"):
        for name, _ in record.placements:
            one, other = source.chunk(name), new.chunk(name)
            assert one.slots is not None
            assert other.slots is not None
            for part in ("keys", "values", "positions"):
                assert torch.equal(getattr(one.slots, part), getattr(other.slots, part))
            assert (one.text, one.tokens, one.slots.span) == (other.text, other.tokens, other.slots.span)
            assert (one.embeddings == other.embeddings).all()
    source.close()
    new.close()
    assert verify(tmp_path / "new") == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip", "bank", "new"]
    with zipfile.ZipFile(file) as packed:
        assert {info.compress_type for info in packed.infolist()} == {zipfile.ZIP_STORED}


def test_it_can_be_taken_in_under_another_name_beside_the_first(file: Path, bank: Path) -> None:
    before = digest(bank)
    assert import_namespace(bank, file).unchanged == 2
    assert digest(bank) == before
    assert import_namespace(bank, file, "again").documents == 2
    opened = MemoryBank(path=bank)
    there, here = encoded("seven..", "a"), encoded("seven..", "again")
    assert torch.equal(opened.slots(there.chunk_id).values, opened.slots(here.chunk_id).values)
    assert [c.document_id for c in opened.index("again").chunks] == ["x", "x", "y", "y"]
    opened.close()
    assert verify(bank) == []
    other = built(bank.parent / "other", ("a", "x", ["mine"]))
    with pytest.raises(ConflictError, match="document 'x' of namespace 'a'"):
        import_namespace(other, file)
    assert import_namespace(other, file, on_conflict="keep").kept == 1


def test_an_export_that_fails_leaves_the_file_that_was_there(
    file: Path, bank: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = file.read_bytes()
    with pytest.raises(UnknownNamespaceError, match="no namespace 'q'; it has: 'a', 'b', 'c'"):
        export_namespace(bank, "q", file)
    with monkeypatch.context() as patched:
        patched.setattr("core.archive.sync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(StorageError, match="No space left"):
            export_namespace(bank, "a", file)
    shard = min((bank / "slots").iterdir())
    shard.unlink()
    with pytest.raises(BankError, match=f"damaged.*{shard.name}"):
        export_namespace(bank, "a", file)
    assert file.read_bytes() == before
    assert sorted(p.name for p in bank.parent.iterdir()) == ["a.zip", "bank"]


def repacked(file: Path, change: Callable[[dict[str, bytes]], None], method: int = zipfile.ZIP_STORED) -> None:
    """Write the file anew with its entries changed, as someone who knows the format would."""
    with zipfile.ZipFile(file) as packed:
        entries = {name: packed.read(name) for name in packed.namelist()}
    change(entries)
    with zipfile.ZipFile(file, "w", method) as packed:
        for name, data in entries.items():
            packed.writestr(name, data)


def in_manifest(**changes: object) -> Callable[[dict[str, bytes]], None]:
    def change(entries: dict[str, bytes]) -> None:
        entries["manifest.json"] = json.dumps(json.loads(entries["manifest.json"]) | changes).encode()

    return change


def added(name: str) -> Callable[[dict[str, bytes]], None]:
    return lambda entries: entries.update({name: b"x"})


def flipped(entries: dict[str, bytes]) -> None:
    name = max(entries)
    entries[name] = entries[name][:-1] + bytes([entries[name][-1] ^ 1])


HOSTILE = {
    "a name that climbs out": (added("../../evil.txt"), "entry '../../evil.txt' is none that an export has"),
    "a name from the root": (added("/etc/evil"), "entry '/etc/evil' is none"),
    "a name that climbs out of slots": (added("slots/../evil"), "entry 'slots/../evil' is none"),
    "a shard that is not listed": (added(f"slots/{'0' * 32}.safetensors"), "entries are not those of its manifest"),
    "another format": (in_manifest(format=2), "export format 2, this release reads 1"),
    "another namespace": (in_manifest(namespace="b"), "does not hold just the namespace 'b'"),
    "something more in the manifest": (in_manifest(run="this"), "manifest.json cannot be read"),
    "a manifest without a format": (lambda e: e.update({"manifest.json": b"{}"}), "manifest.json cannot be read"),
    "no manifest": (lambda e: e.pop("manifest.json"), "no manifest.json"),
    "no catalogue": (lambda e: e.pop("bank.sqlite"), "entries are not those of its manifest"),
    "other bytes in a shard": (flipped, "holds other bytes than its hash is of"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_file_that_was_tampered_with_is_refused(kind: str, file: Path, tmp_path: Path) -> None:
    change, said = HOSTILE[kind]
    repacked(file, change)
    with pytest.raises(BankError) as refused:
        import_namespace(tmp_path / "new", file)
    assert said in str(refused.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip", "bank"]
    assert not Path("/etc/evil").exists()


def test_bombs_are_refused_before_they_are_unpacked(file: Path, tmp_path: Path) -> None:
    large = {"bank.sqlite": bytes(1 << 20)}
    repacked(file, lambda entries: entries.update(large), zipfile.ZIP_DEFLATED)
    with pytest.raises(BankError, match="is not stored as it is"):
        import_namespace(tmp_path / "new", file)
    # Many names for one stretch of bytes: the directory says more than the file has.
    data = file.read_bytes()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("bank.sqlite", bytes(5000))
    data = file.read_bytes().replace((5000).to_bytes(4, "little"), (5_000_000).to_bytes(4, "little"))
    file.write_bytes(data)
    with pytest.raises(BankError, match="larger than the file"):
        import_namespace(tmp_path / "new", file)


def test_a_catalogue_that_does_more_than_hold_rows_is_refused(file: Path, bank: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(file) as packed:
        packed.extract("bank.sqlite", tmp_path / "x")
    catalogue = tmp_path / "x" / "bank.sqlite"
    with sqlite3.connect(catalogue) as database:
        database.execute("CREATE TRIGGER t AFTER INSERT ON chunks BEGIN DELETE FROM documents; END")
    database.close()
    data = catalogue.read_bytes()

    def change(entries: dict[str, bytes]) -> None:
        entries["bank.sqlite"] = data
        hashes = json.loads(entries["manifest.json"])["entries"] | {"bank.sqlite": hashlib.sha256(data).hexdigest()}
        in_manifest(entries=hashes)(entries)

    repacked(file, change)
    before = digest(bank)
    with pytest.raises(BankError, match="not of this library's making"):
        import_namespace(bank, file)
    assert digest(bank) == before


def test_whatever_is_cut_off_or_flipped_ends_in_a_clear_error_or_changes_nothing(file: Path, tmp_path: Path) -> None:
    data, broken, new = file.read_bytes(), tmp_path / "broken.zip", tmp_path / "new"
    import_namespace(tmp_path / "whole", file)
    whole = digest(tmp_path / "whole")
    shapes = [data[:at] for at in range(0, len(data), len(data) // 12)]
    tail = len(data) - 700
    places = [*range(0, tail, len(data) // 12), *range(tail, len(data), 9)]
    shapes += [data[:at] + bytes([data[at] ^ 0x11]) + data[at + 1 :] for at in places]
    refused = 0
    for shape in shapes:
        broken.write_bytes(shape)
        try:
            import_namespace(new, broken)
        except BankError:
            refused += 1
            assert not new.exists()
        else:  # a date in the directory, or a byte between entries
            assert digest(new) == whole
            shutil.rmtree(new)
    assert refused > len(shapes) // 2


def test_on_the_command_line(cli, bank: Path, tmp_path: Path) -> None:  # noqa: F811
    file = tmp_path / "sub" / "c.zip"
    assert "1 documents of namespace c" in cli("export", file, "--bank", bank, "--namespace", "c").error
    ran = cli("import", file, "--bank", tmp_path / "new", "--namespace", "mine")
    assert (ran.code, "1 documents taken in" in ran.error) == (0, True)
    assert_refused(cli("export", file, "--bank", bank), "no namespace 'default'")
    file.write_bytes(file.read_bytes()[:-30])
    assert_refused(cli("import", file, "--bank", tmp_path / "new"), "no zip file, cut off or damaged")
    assert_refused(cli("import", tmp_path / "none.zip", "--bank", tmp_path / "new"), "does not exist")
    with pytest.raises(InputError, match="give it a name"):
        import_namespace(tmp_path / "new", file, " ")
