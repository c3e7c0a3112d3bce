"""Every error that this library raises on purpose, as one tree.

Each message names the offending value and says what to do about it.
"""


class CompressedMemoryError(Exception):
    """Root of the tree: catch this to catch everything raised on purpose."""


class InputError(CompressedMemoryError, ValueError):
    """A value given by the caller cannot be used: a setting, a question, a file."""


class ModelError(CompressedMemoryError):
    """A model cannot be used: its family is unsupported, or its context is too short."""


class WeightsError(CompressedMemoryError):
    """Weights or a tokenizer cannot be found, fetched or verified."""


class BankError(CompressedMemoryError):
    """A memory bank is missing, damaged, busy or of another format."""


class MissingBankError(BankError):
    """There is no memory bank at a place where one was to be read."""


class BankMismatchError(BankError):
    """A memory bank was written with another model, adapter, ratio or chunk size."""


class UnknownNamespaceError(BankError, KeyError):
    """A namespace that the bank does not hold was asked for."""

    def __str__(self) -> str:
        # KeyError would show the message's repr.
        return str(self.args[0]) if self.args else ""


class ConflictError(BankError):
    """Two banks hold other text under one document id, and nothing was said about which is to stay."""


class LimitError(BankError):
    """A namespace would grow past the limit that was set for it."""


class StorageError(BankError):
    """The disk refused a write: it is full, read-only or gone."""


class ExtraMissingError(CompressedMemoryError, ImportError):
    """An optional library is needed; the message carries the line that installs it."""


class WorkerError(CompressedMemoryError):
    """A worker of an ingest on several machines failed; what was committed stays."""


def require_unicode(text: str, what: str) -> None:
    """Refuse text that no encoding can hold, such as half a surrogate pair, before a tokenizer chokes on it.

    Raises:
        InputError: naming the first such character.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{what} has {text[error.start]!r} at character {error.start}, which is no Unicode character: remove it"
        ) from error
