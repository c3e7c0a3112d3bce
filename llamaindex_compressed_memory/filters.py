"""LlamaIndex's metadata filters, nested ones too, as they apply to a document of a bank."""

from collections.abc import Mapping
from typing import Any

from llama_index.core.vector_stores.types import FilterCondition, MetadataFilter, MetadataFilters
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

import core
from core.errors import InputError

from .nodes import filterable


def passing(engine: "core.Engine", namespace: str, filters: MetadataFilters | None) -> list[str] | None:
    """Return the ids of the documents that pass ``filters``; ``None`` where there are none to pass.

    Raises:
        InputError: an operator cannot be applied to what a document has under its key.
    """
    if filters is None:
        return None
    records = engine.bank.records(namespace)
    return [record.document_id for record in records if passes(filters, filterable(record))]


def passes(filters: MetadataFilters, metadata: Mapping[str, Any]) -> bool:
    """Return whether ``metadata`` passes ``filters``, each operator as LlamaIndex's own vector store has it.

    Raises:
        InputError: an operator cannot be applied to what the document has under its key.
    """
    found = [
        passes(one, metadata) if isinstance(one, MetadataFilters) else _passes_one(one, metadata)
        for one in filters.filters
    ]
    if filters.condition == FilterCondition.NOT:
        return not any(found)
    return any(found) if filters.condition == FilterCondition.OR else all(found)


def _passes_one(one: MetadataFilter, metadata: Mapping[str, Any]) -> bool:
    try:
        # One by one, because the framework's function refuses nested filters.
        return build_metadata_filter_fn(lambda _: metadata, MetadataFilters(filters=[one]))("")
    except TypeError as error:
        raise InputError(
            f"filter {one.key!r} {one.operator.value} {one.value!r} cannot be applied to {metadata.get(one.key)!r} of "
            f"document {metadata['document_id']!r}: give a value of its type"
        ) from error
