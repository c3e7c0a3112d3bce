"""What the training tests share."""

import pytest
from accelerate.state import AcceleratorState


@pytest.fixture(autouse=True, scope="module")
def _precision_of_its_own() -> None:
    """A process keeps the precision of its first accelerator; each module may choose again."""
    AcceleratorState._reset_state(reset_partial_state=True)
