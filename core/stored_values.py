"""Reads what a catalogue keeps, which may be damaged or of other hands: SQLite holds any value in any column."""

import json
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .errors import BankError, InputError

MAX_TEXT_BYTES = 1 << 22
"""Of a chunk's text. A few bytes of zlib could otherwise fill the memory."""


def pack_text(text: str) -> bytes:
    """Compress a chunk's text.

    Raises:
        InputError: it is longer than a bank keeps.
    """
    data = text.encode()
    if len(data) > MAX_TEXT_BYTES:
        raise InputError(
            f"a chunk of {len(data):,} bytes of text is over the {MAX_TEXT_BYTES:,} that a bank keeps: put blanks "
            "between its words, or lower chunk_tokens"
        )
    return zlib.compress(data)


def unpack_text(packed: object, chunk_id: object) -> str:
    """Return what :func:`pack_text` was given.

    Raises:
        BankError: it is no such text.
    """
    if not isinstance(packed, bytes):
        raise damaged(f"the text of chunk {chunk_id}")
    unpacking = zlib.decompressobj()
    try:
        data = unpacking.decompress(packed, MAX_TEXT_BYTES)
        if not unpacking.eof or unpacking.unused_data:
            raise damaged(f"the text of chunk {chunk_id}")
        return data.decode()
    except (zlib.error, UnicodeDecodeError) as error:
        raise damaged(f"the text of chunk {chunk_id}") from error


def unpack_metadata(packed: object, document_id: object) -> dict[str, object]:
    """Return a document's metadata from its JSON.

    Raises:
        BankError: it is none.
    """
    try:
        metadata = json.loads(packed) if isinstance(packed, str) else None
    except (ValueError, RecursionError) as error:
        raise damaged(f"the metadata of document {document_id!r}") from error
    if not isinstance(metadata, dict):
        raise damaged(f"the metadata of document {document_id!r}")
    return metadata


def unpack_vectors(packed: Sequence[object], chunk_id: object) -> NDArray[np.float32]:
    """Return a chunk's embeddings, float32 [passages, dimension], from their bytes.

    Raises:
        BankError: they are not all vectors of one length and of finite numbers.
    """
    blobs = [blob for blob in packed if isinstance(blob, bytes)]
    lengths = {len(blob) for blob in blobs}
    if len(blobs) != len(packed) or len(lengths) > 1 or any(n == 0 or n % 4 for n in lengths):
        raise damaged(f"an embedding of chunk {chunk_id}")
    vectors = np.frombuffer(b"".join(blobs), dtype="<f4").reshape(len(blobs), -1 if blobs else 1).astype(np.float32)
    if not np.isfinite(vectors).all():
        raise damaged(f"an embedding of chunk {chunk_id}")
    return vectors


def require_kinds(row: Sequence[object], kinds: Sequence[type], what: str) -> None:
    """Refuse a row of which a value is of another kind than its column.

    Raises:
        BankError: naming ``what`` the row is.
    """
    if not all(type(value) is kind for value, kind in zip(row, kinds, strict=True)):
        raise damaged(what)


def damaged(what: str) -> BankError:
    """Return the error that says that ``what`` is damaged."""
    return BankError(f"the bank is damaged: {what} is not as it was written; run 'compressed-memory repair --bank DIR'")
