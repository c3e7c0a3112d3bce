"""A namespace as one file: a zip whose entries are stored as they are, with a manifest of their SHA-256.

The file may come from other hands, so nothing in it is believed: names, sizes and hashes are checked before a byte
reaches the bank, and what was unpacked is verified as any bank is.
"""

import hashlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

from pydantic import BaseModel, ConfigDict, ValidationError

from .bank_copy import copy_documents
from .catalogue import CATALOGUE
from .errors import BankError, InputError, StorageError
from .memory_bank import DocumentRecord, MemoryBank
from .merge import MergeProgress, MergeReport, OnConflict, merge
from .slot_store import SHARD_NAME, sync
from .verification import verified

ARCHIVE_FORMAT = 1
_MANIFEST = "manifest.json"
_MOST_MANIFEST = 64 << 20
_BLOCK = 1 << 20


class _Format(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    format: int


class _Manifest(_Format):
    model_config = ConfigDict(extra="forbid")

    namespace: str
    entries: dict[str, str]
    """SHA-256 by name."""


def export_namespace(
    path: Path, namespace: str, file: Path, progress: Callable[[MergeProgress], None] = lambda _: None
) -> int:
    """Write all of a namespace of the bank in directory ``path`` into one file; return how many documents it has.

    The bank is read to the last byte first. A file that is there is replaced once the new one is whole and on disk.

    Raises:
        UnknownNamespaceError: the bank has no such namespace.
        MissingBankError, BankError: there is no bank, it is damaged, or another process is writing to it.
        StorageError: the disk refused; no file was written.
    """
    with _disk(file), _scratch(file) as scratch, verified(path) as bank:
        records = bank.records(namespace)
        if not records:
            bank.index(namespace)  # says which namespaces there are
        done = 0

        def copied(record: DocumentRecord) -> None:
            nonlocal done
            done += 1
            progress(MergeProgress(record.document_id, done, len(records)))

        with closing(MemoryBank(bank.fingerprint, scratch / "bank")) as part, part.writing():
            copy_documents(bank, part, namespace, records, copied=copied)
        _pack(scratch / "bank", namespace, scratch / "packed")
        os.replace(scratch / "packed", file)
        sync(file.parent)
    return len(records)


def _pack(folder: Path, namespace: str, file: Path) -> None:
    entries = [folder / CATALOGUE, *sorted((folder / "slots").iterdir())]
    names = {str(entry.relative_to(folder).as_posix()): entry for entry in entries}
    hashes = {}
    for name, entry in names.items():
        with entry.open("rb") as stream:
            hashes[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    manifest = _Manifest(format=ARCHIVE_FORMAT, namespace=namespace, entries=hashes)
    with zipfile.ZipFile(file, "x", zipfile.ZIP_STORED) as packed:
        packed.writestr(_MANIFEST, manifest.model_dump_json())
        for name, entry in names.items():
            packed.write(entry, name)
    sync(file)


def import_namespace(
    path: Path,
    file: Path,
    namespace: str | None = None,
    on_conflict: OnConflict = "error",
    progress: Callable[[MergeProgress], None] = lambda _: None,
) -> MergeReport:
    """Take what :func:`export_namespace` wrote into the bank in directory ``path``, made if it is not there.

    Args:
        namespace: its name here; ``None``: as it was.
        on_conflict: see :func:`core.merge.merge`.

    Raises:
        InputError: the file is not there, or the namespace has no name.
        BankError: the file is no export, of another format, cut off or changed: nothing was written. Otherwise, and for
            further errors, see :func:`core.merge.merge`.
        StorageError: the disk refused; all that was committed stays.
    """
    if namespace is not None and not namespace.strip():
        raise InputError(f"namespace is {namespace!r}: give it a name")
    if not file.is_file():
        raise InputError(f"{file} does not exist: give a file that 'compressed-memory export' wrote")
    with _disk(path), _scratch(path) as scratch:
        manifest = _unpack(file, scratch / "bank")
        with verified(scratch / "bank") as part:
            if [summary.namespace for summary in part.summaries()] != [manifest.namespace]:
                raise _refused(file, f"it does not hold just the namespace {manifest.namespace!r} that it names")
        return merge(path, [scratch / "bank"], on_conflict, progress, namespace=namespace)


def _unpack(file: Path, folder: Path) -> _Manifest:
    try:
        with zipfile.ZipFile(file) as packed:
            manifest = _checked(packed, file)
            (folder / "slots").mkdir(parents=True)
            for name, sha256 in manifest.entries.items():
                with packed.open(name) as stream, (folder / name).open("xb") as out:
                    if _copied_hash(stream, out) != sha256:
                        raise _refused(file, f"its entry {name} holds other bytes than its hash is of")
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError) as error:
        raise _refused(file, f"it is no zip file, cut off or damaged ({error})") from error
    return manifest


def _checked(packed: zipfile.ZipFile, file: Path) -> _Manifest:
    """Return the manifest once all entries are what this release writes: before anything is unpacked."""
    infos = packed.infolist()
    names = [info.filename for info in infos]
    for info in infos:
        shard = info.filename.removeprefix("slots/")
        known = info.filename in (_MANIFEST, CATALOGUE) or (shard != info.filename and SHARD_NAME.fullmatch(shard))
        if not known:
            raise _refused(file, f"its entry {info.filename!r} is none that an export has")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.file_size != info.compress_size:
            raise _refused(file, f"its entry {info.filename!r} is not stored as it is")
    if len(set(names)) < len(names):
        raise _refused(file, "two of its entries have one name")
    # Entries that are stored take their size each; more than the file has would be one stretch of it under many names.
    if sum(info.file_size for info in infos) > file.stat().st_size:
        raise _refused(file, "its entries are larger than the file")
    if _MANIFEST not in names or packed.getinfo(_MANIFEST).file_size > _MOST_MANIFEST:
        raise _refused(file, f"it has no {_MANIFEST} of reasonable size")
    try:
        text = packed.read(_MANIFEST)
        if (found := _Format.model_validate_json(text).format) != ARCHIVE_FORMAT:
            raise BankError(f"{file} has export format {found}, this release reads {ARCHIVE_FORMAT}")
        manifest = _Manifest.model_validate_json(text)
    except ValidationError as error:
        raise _refused(file, f"its {_MANIFEST} cannot be read: {error.errors()[0]['msg']}") from error
    if {*manifest.entries, _MANIFEST} != set(names) or CATALOGUE not in names:
        raise _refused(file, f"its entries are not those of its {_MANIFEST}")
    return manifest


def _refused(file: Path, why: str) -> BankError:
    return BankError(f"{file} cannot be imported: {why}. Nothing was written: export it again, or copy it again")


def _copied_hash(stream: IO[bytes], out: IO[bytes]) -> str:
    total = hashlib.sha256()
    while block := stream.read(_BLOCK):
        total.update(block)
        out.write(block)
    return total.hexdigest()


@contextmanager
def _scratch(beside: Path) -> Iterator[Path]:
    """Make a folder on the disk where the result will be; it is gone afterwards."""
    beside.absolute().parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{beside.name}.", dir=beside.absolute().parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _disk(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"{place} cannot be written or read: {error}; free some space and run it again") from error
