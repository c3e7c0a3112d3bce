"""What the training tests share."""

import pytest
from accelerate.state import AcceleratorState

from core.embedder import Embedder
from core.embedder_head import find_head
from core.evidence import Tagger
from core.training.material import Material
from core.weights import DEFAULT_EMBEDDER

from .small_runs import material


@pytest.fixture(autouse=True, scope="module")
def _precision_of_its_own() -> None:
    """A process keeps the precision of its first accelerator; each module may choose again."""
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(device="cpu")


@pytest.fixture(scope="module")
def judging() -> Embedder:
    """The embedder with the tagger that ships."""
    return Embedder(device="cpu", tagger=find_head(Tagger, "default", DEFAULT_EMBEDDER))


@pytest.fixture(scope="module")
def few() -> Material:
    """Questions for a head of the embedder."""
    whole = material()
    return Material(whole.train[:24], whole.train[24:40], ())
