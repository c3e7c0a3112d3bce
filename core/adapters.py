"""Trained adapters: those that ship with the package, or a folder that training wrote, and what they were made for."""

from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from .backbone import ROLES, Backbone, Role
from .errors import WeightsError
from .settings import Placement

DEFAULT_ADAPTERS, NO_ADAPTERS = "default", "none"
CARD = "adapters.json"
SHIPPED = Path(__file__).parent / "pretrained"


class AdapterCard(BaseModel):
    """What the adapters of a folder fit."""

    model_config = ConfigDict(frozen=True)

    base: str
    """Fingerprint of the base model's weights."""
    placement: Placement
    """Where the compressor's adapter expects slots."""


def find_adapters(adapters: str, model: str) -> Path | None:
    """Return the folder that ``adapters`` means for ``model``.

    Args:
        adapters: ``"default"``, those that ship for this model if there are any; ``"none"``; or a folder.

    Raises:
        WeightsError: the folder holds no adapters, or those that ship are not whole.
    """
    if adapters == NO_ADAPTERS:
        return None
    if adapters == DEFAULT_ADAPTERS:
        shipped = SHIPPED / model
        if (shipped / CARD).is_file():
            return shipped
        if shipped.parent == SHIPPED and shipped.is_dir():
            # Without them everything would go on, and answer badly.
            raise WeightsError(
                f"the adapters that ship for {model} are not whole: no {CARD} at {shipped}. Install compressed-memory "
                "again, or set adapters to 'none'"
            )
        return None
    folder = Path(adapters)
    if not (folder / CARD).is_file():
        raise WeightsError(
            f"adapters {adapters!r}: no {CARD} there. Give the folder 'adapters' of a training run, 'default' or 'none'"
        )
    return folder


def find_for_embedder(adapters: str, embedder: str, kind: str, fits: Callable[[Path], bool]) -> Path | None:
    """Return the folder ``kind`` that ``adapters`` mean for ``embedder``, or ``None`` where there is none that fits.

    Args:
        adapters: as :func:`find_adapters` takes it. A folder without a fitting one leaves that which ships.
    """
    if adapters == NO_ADAPTERS:
        return None
    own = () if adapters == DEFAULT_ADAPTERS else (Path(adapters) / kind,)
    return next((f for f in (*own, SHIPPED / Path(embedder).name / kind) if fits(f)), None)


def read_card(folder: Path) -> AdapterCard:
    """Return what the adapters of ``folder`` fit.

    Raises:
        WeightsError: the folder does not say so.
    """
    try:
        return AdapterCard.model_validate_json((folder / CARD).read_text())
    except (OSError, ValidationError) as error:
        raise WeightsError(f"{folder / CARD} cannot be read: {error}") from error


def holds_adapter(folder: Path) -> bool:
    """Whether ``folder`` has an adapter, whole or damaged; a compressor's may have a selector and nothing else."""
    return any((folder / name).is_file() for name in ("adapter_config.json", "adapter_model.safetensors"))


def load_adapters(backbone: Backbone, folder: Path, placement: Placement, trainable: Sequence[Role] = ()) -> None:
    """Load every adapter of ``folder`` onto ``backbone``; the compressor's only if it was trained for ``placement``.

    Raises:
        WeightsError: the adapters were trained on other weights, or the folder is damaged.
    """
    card = read_card(folder)
    if card.base != backbone.base_fingerprint:
        raise WeightsError(
            f"the adapters in {folder} were trained on weights {card.base}, {backbone.name} has "
            f"{backbone.base_fingerprint}: use the model that they were trained on, or adapters='none'"
        )
    for role in ROLES:
        if holds_adapter(folder / role) and (role != "compressor" or card.placement == placement):
            backbone.load_adapter(role, folder / role, trainable=role in trainable)


def save_adapters(backbone: Backbone, roles: Sequence[Role], folder: Path, placement: Placement) -> None:
    """Write the adapters of ``roles`` into ``folder``, to be found by :func:`load_adapters`."""
    for role in roles:
        backbone.save_adapter(role, folder)
    folder.mkdir(parents=True, exist_ok=True)
    card = AdapterCard(base=backbone.base_fingerprint, placement=placement)
    (folder / CARD).write_text(card.model_dump_json(indent=1) + "\n")
