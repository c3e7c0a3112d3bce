"""How much a namespace may hold: kept in the bank, so that whoever writes to it is held to it."""

from collections import Counter
from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .catalogue import checksum
from .errors import BankError, InputError, LimitError
from .memory_bank import MemoryBank
from .settings import NamespaceLimit

LIMITS, SEAL = "limits", "limits_checksum"


class BankLimits(BaseModel):
    """The limits of a bank."""

    model_config = ConfigDict(frozen=True)

    every: NamespaceLimit = Field(default_factory=NamespaceLimit)
    """Of each namespace that has none of its own."""
    own: dict[str, NamespaceLimit] = Field(default_factory=dict)

    def of(self, namespace: str) -> NamespaceLimit:
        """Return what holds for ``namespace``."""
        return self.own.get(namespace, self.every)


def limits_in(meta: Mapping[str, str], where: object) -> BankLimits:
    """Read the limits out of a bank's table ``meta``; none where none were set.

    Raises:
        BankError: they were changed by other hands.
    """
    if LIMITS not in meta and SEAL not in meta:
        return BankLimits()
    try:
        if meta.get(SEAL) == checksum(meta[LIMITS]):
            return BankLimits.model_validate_json(meta[LIMITS])
    except (KeyError, ValidationError, InputError):
        pass
    raise BankError(
        f"bank {where} is damaged: the limits of its namespaces were changed. Run 'compressed-memory repair', which "
        "removes them, and set them again"
    )


def read_limits(bank: MemoryBank) -> BankLimits:
    """Return the limits of a bank's namespaces.

    Raises:
        BankError: they were changed by other hands.
    """
    return limits_in(dict(bank.rows("SELECT key, value FROM meta")), bank.path or "in memory")


def set_limit(bank: MemoryBank, limit: NamespaceLimit | None, namespace: str | None = None) -> None:
    """Limit a namespace, or with ``namespace=None`` each that has no limit of its own.

    What is held already stays, however much it is; it can shrink and not grow.

    Args:
        limit: ``None`` takes back a namespace's own limit, so that the one of all holds again.

    Raises:
        BankError: another process is writing, or the limits that were set were changed by other hands.
        StorageError: the disk refused.
    """
    with bank.writing():
        limits = read_limits(bank)
        if namespace is None:
            limits = BankLimits(every=limit or NamespaceLimit(), own=limits.own)
        else:
            others = {name: held for name, held in limits.own.items() if name != namespace}
            limits = BankLimits(every=limits.every, own=others | ({namespace: limit} if limit else {}))
        text = limits.model_dump_json()
        bank.set_meta({LIMITS: text, SEAL: checksum(text)})


class NamespaceUse:
    """What a namespace would hold with documents that are about to come, counted before anything is encoded."""

    def __init__(self, bank: MemoryBank, namespace: str) -> None:
        self._namespace, self._limit = namespace, read_limits(bank).of(namespace)
        self._documents: dict[str, list[str]] = {}
        self._tokens: dict[str, int] = {}
        if self.limited:
            for document_id, chunk, tokens in bank.rows(
                "SELECT document_id, chunk_id, tokens FROM placements JOIN documents USING (document) "
                "JOIN chunks USING (chunk_id) WHERE documents.namespace = ?",
                namespace,
            ):
                self._documents.setdefault(document_id, []).append(chunk)
                self._tokens[chunk] = tokens
        self._holders = Counter(chunk for chunks in self._documents.values() for chunk in chunks)
        self._total = sum(self._tokens.values())

    @property
    def limited(self) -> bool:
        """Whether there is a limit, and so anything to count."""
        return self._limit != NamespaceLimit()

    def put(self, document_id: str, chunks: Iterable[tuple[str, int]]) -> None:
        """Count a document, in place of the one that has its id.

        Args:
            chunks: (chunk id, tokens) of each of its chunks; taken only as far as the limit goes.

        Raises:
            LimitError: with it the namespace would grow past its limit.
        """
        documents, tokens = len(self._documents), self._total
        for chunk in self._documents.pop(document_id, ()):
            self._holders[chunk] -= 1
            self._total -= 0 if self._holders[chunk] else self._tokens[chunk]
        placed = self._documents[document_id] = []
        self._require("documents", len(self._documents), documents, document_id)
        for chunk, size in chunks:
            placed.append(chunk)
            self._tokens[chunk] = size
            self._total += 0 if self._holders[chunk] else size
            self._holders[chunk] += 1
            self._require("tokens", self._total, tokens, document_id)

    def _require(self, what: str, count: int, before: int, document_id: str) -> None:
        most = getattr(self._limit, what)
        if most is not None and count > max(most, before):
            raise LimitError(
                f"namespace {self._namespace!r} may hold {most:,} {what}, and document {document_id!r} would make it "
                f"{count:,} or more. Nothing was taken in: delete documents, use another namespace, or raise the limit "
                f"with 'compressed-memory limit --bank DIR --namespace {self._namespace} --{what} N'"
            )
