"""What compression keeps: nothing is lost at α = 1, and more at every step after it."""

from functools import partial
from pathlib import Path
from pydoc_data.topics import topics

import pytest

from core.backbone import Backbone
from core.compressor import Compressor
from core.errors import InputError, WeightsError
from core.evaluation.fidelity import answers_from_gold, measure, passages, read_after
from core.selector import new_selector, save_selector
from core.settings import CompressionSettings

from .made import MILL

STORIES = sorted(topics.values(), key=len)[-2:]


def test_uncompressed_keeps_all_and_more_is_lost_at_higher_ratios(default_backbone: Backbone) -> None:
    one, many = measure(default_backbone, STORIES[:1], [MILL], "in_place", context=64, ratios=(1, 16))
    assert one.next_text_kept == pytest.approx(1, abs=0.05)
    assert many.next_text_kept < one.next_text_kept
    assert one.reconstruction_loss < many.reconstruction_loss
    assert one.reconstruction_accuracy > many.reconstruction_accuracy
    assert "Ark" in MILL.answers[0]
    assert one.answer_sub_exact_match == 1.0


def test_slots_in_int8_take_half_and_keep_nearly_all(default_backbone: Backbone) -> None:
    plain, small = measure(
        default_backbone, STORIES[:1], [MILL], "in_place", context=64, ratios=(4,), kept_as=("bf16", "int8")
    )
    assert (plain.slots, small.slots) == ("bf16", "int8")
    assert 0.5 < small.mib_per_million_tokens / plain.mib_per_million_tokens < 0.6
    assert small.next_text_loss != plain.next_text_loss
    assert small.next_text_loss == pytest.approx(plain.next_text_loss, abs=0.1)


def test_selected_tokens_are_measured_with_the_selector_of_the_adapters(
    default_backbone: Backbone, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match="needs a selector"):
        measure(default_backbone, STORIES[:1], [MILL], "selected", context=64, ratios=(4,))
    save_selector(new_selector(default_backbone), tmp_path)
    measured = partial(measure, default_backbone, STORIES[:1], [MILL], context=64, ratios=(1, 4), adapters=tmp_path)
    (whole, few), (plain, plain_few) = measured("selected"), measured("in_place")
    assert whole.next_text_loss == plain.next_text_loss
    assert few.next_text_loss != plain_few.next_text_loss
    assert (few.placement, few.next_text_kept < whole.next_text_kept) == ("selected", True)
    # As many slots; a position is kept for each layer.
    assert 1 < few.mib_per_million_tokens / plain_few.mib_per_million_tokens < 1.01


def test_slots_help_to_read_a_passage_again(default_backbone: Backbone) -> None:
    contexts = passages(default_backbone, STORIES, 64)[:, :64]
    whole = Compressor(default_backbone, CompressionSettings(ratio=1, chunk_tokens=64))
    without, chance = read_after(default_backbone, None, contexts, contexts)
    with_slots, accuracy = read_after(default_backbone, whole, contexts, contexts)
    assert with_slots < without / 2
    assert accuracy > chance + 0.2


def test_only_gold_paragraphs_are_read(default_backbone: Backbone) -> None:
    whole = Compressor(default_backbone, CompressionSettings(ratio=1))
    blind = MILL.model_copy(update={"paragraphs": (MILL.paragraphs[1].model_copy(update={"support": (0,)}),)})
    assert answers_from_gold(default_backbone, whole, [blind])[1] == 0.0


def test_a_story_that_is_too_short_is_refused(default_backbone: Backbone) -> None:
    with pytest.raises(InputError, match=r"text 0 has \d+ tokens, 161 are needed"):
        passages(default_backbone, ["Too short."], 64)
