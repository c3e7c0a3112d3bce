"""Values that cannot be used are refused with their name."""

import pytest
from pydantic import ValidationError

from core.errors import CompressedMemoryError, InputError
from core.settings import CompressionSettings, RecallSettings, replaced

COMPRESSION = [
    ("chunk_tokens", 15),
    ("chunk_tokens", 4097),
    ("chunk_tokens", "many"),
    ("chunk_tokens", 20.5),
    ("ratio", 0),
    ("ratio", 3),
    ("ratio", 32),
    ("placement", "everywhere"),
    ("sink_tokens", -1),
    ("sink_tokens", 65),
    ("encode", "perhaps"),
]
RECALL = [
    ("form", "slots"),
    ("threshold", -0.1),
    ("threshold", 1.1),
    ("threshold", float("nan")),
    ("top_k", 0),
    ("max_steps", 0),
    ("callback", "perhaps"),
    ("callback_threshold", 2),
    ("raw_passages", 0),
    ("memory_tokens", 15),
    ("update_tokens", 7),
    ("answer_tokens", 3),
    ("candidates", 0),
]


@pytest.mark.parametrize(("name", "value"), COMPRESSION)
def test_a_compression_setting_out_of_range_is_named_with_its_value(name: str, value: object) -> None:
    with pytest.raises(InputError) as caught:
        CompressionSettings(**{name: value})
    assert f"CompressionSettings: {name}={value!r}: " in str(caught.value)


@pytest.mark.parametrize(("name", "value"), RECALL)
def test_a_recall_setting_out_of_range_is_named_with_its_value(name: str, value: object) -> None:
    with pytest.raises(InputError) as caught:
        RecallSettings(**{name: value})
    assert f"RecallSettings: {name}={value!r}: " in str(caught.value)


def test_every_bad_value_is_named_at_once() -> None:
    with pytest.raises(InputError, match=r"chunk_tokens=1: .*; ratio=3: "):
        CompressionSettings(chunk_tokens=1, ratio=3)


@pytest.mark.parametrize("settings", [CompressionSettings, RecallSettings])
def test_an_unknown_name_is_refused(settings: type[CompressionSettings | RecallSettings]) -> None:
    with pytest.raises(InputError, match="chunk_size=512"):
        settings(chunk_size=512)


def test_an_input_error_is_a_value_error_of_this_library() -> None:
    with pytest.raises(ValueError, match="ratio=3") as caught:
        CompressionSettings(ratio=3)
    assert isinstance(caught.value, CompressedMemoryError)


@pytest.mark.parametrize("settings", [CompressionSettings(), RecallSettings()])
def test_settings_do_not_change(settings: CompressionSettings | RecallSettings) -> None:
    for name in type(settings).model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(settings, name, getattr(settings, name))


def test_replacing_a_value_checks_everything_again_and_leaves_the_original() -> None:
    settings = RecallSettings(top_k=6, threshold=0.25)
    assert replaced(settings, max_steps=10) == RecallSettings(top_k=6, threshold=0.25, max_steps=10)
    assert settings == RecallSettings(top_k=6, threshold=0.25)
    with pytest.raises(InputError, match="max_steps=0: "):
        replaced(settings, max_steps=0)
    with pytest.raises(InputError, match="steps=5"):
        replaced(settings, steps=5)


def test_the_least_and_the_most_are_taken() -> None:
    CompressionSettings(chunk_tokens=16, ratio=1, sink_tokens=0)
    CompressionSettings(chunk_tokens=4096, ratio=16, sink_tokens=64)
    RecallSettings(threshold=0, callback_threshold=1, raw_passages=None, candidates=None, top_k=1, max_steps=1)
