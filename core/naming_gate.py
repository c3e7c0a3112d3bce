"""Opens what a note names: of the second of two hops a note of the first says little but the name.

The nearest of many embeddings is often that of another of its kind, another director of another film: dense retrieval
is weak at names (Sciavolino et al., arXiv 2109.08535). So the chunks that are nearest to a name itself are looked at,
and those that hold it to the letter are likelier to open.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .chunking import sentences
from .embedder import Embedder
from .gate import Gate
from .headings import heading_of
from .names import entitled, folded, names
from .passage_index import PassageIndex, highest
from .similarity import raised
from .working_memory import WorkingMemory

HEADED = 5.0
"""Nats that a chunk gains under a heading that is the name. This and the next as logistic regressions of "is the
missing paragraph" on the gate's logit beside them gave it (docs/benchmarks.md, "Following names")."""
SLOPE, MIDPOINT = 9.0, 0.45
"""Nats for each unit of cosine between name and passage, and the cosine up to which there are none."""
_PASSAGES = 16
"""Nearest to a name that are looked at. Among 17,205 the one that has it as its title is there for 0.99 of 1,500."""
_LEAST_COSINE = 0.3
"""Below it no chunk headed by a name was seen."""
_LEAST = 0.01
"""P(open) from which a named chunk rises where the other gate gives less, or has not looked at it."""


class NamingGate:
    """Another gate, which what the notes name raises."""

    def __init__(self, gate: Gate, embedder: Embedder, text: Callable[[str], str], *, exact: bool = False) -> None:
        """
        Args:
            text: gives that of a chunk by its id.
            exact: see :class:`core.settings.RecallSettings`.
        """
        self._gate, self._embedder, self._text, self._exact = gate, embedder, text, exact

    def probabilities(self, question: str, memory: WorkingMemory, index: PassageIndex) -> NDArray[np.float32]:
        """See :class:`core.gate.Gate`. No chunk has less than the other gate gives it.

        Names that the question says too lead nowhere new, and those in a note do not raise the chunk it is from.
        """
        found, asked = self._gate.probabilities(question, memory, index), folded(question)
        sources = dict[str, set[str]]()
        for note in memory.notes:
            for name in names(note.quote):
                if folded(name) not in asked:
                    sources.setdefault(name, set()).add(note.chunk_id)
        if not sources:
            return found
        gained = dict[int, float]()
        for (name, said_in), vector in zip(sources.items(), self._embedder.embed(list(sources)), strict=True):
            cosines = index.similarities(vector[None], _PASSAGES, exact=self._exact)
            for row in highest(cosines, _PASSAGES):
                chunk_id = index.chunks[row].chunk_id
                if cosines[row] > _LEAST_COSINE and chunk_id not in said_in:
                    nats = _nats(name, self._text(chunk_id), float(cosines[row]))
                    gained[row] = max(gained.get(row, 0.0), nats)
        for row, nats in gained.items():
            if nats:
                found[row] = max(found[row], raised(max(float(found[row]), _LEAST), nats))
        return found


def _nats(name: str, text: str, cosine: float) -> float:
    """Return what a chunk of ``text`` gains by ``name``: nothing where it does not hold it."""
    said = folded(name)
    if said not in folded(text):
        return 0.0
    headings = (heading_of(text, start, end) for start, end in sentences(text))
    if any(heading and entitled(heading) == said for heading in headings):
        return HEADED
    return max(0.0, SLOPE * (cosine - MIDPOINT))
