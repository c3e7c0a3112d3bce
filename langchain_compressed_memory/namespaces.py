"""Whose memory is meant: a namespace that is named, never one that everyone shares."""

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.utils import ConfigurableFieldSpec

from core.errors import InputError

NAMESPACE_KEY = "namespace"
NAMESPACE_SPEC = ConfigurableFieldSpec(
    id=NAMESPACE_KEY,
    annotation=str,
    name="Namespace",
    description="Whose memory is meant, such as the user's id. Nothing is shared between two namespaces.",
    is_shared=True,
)


def chosen_namespace(fixed: str | None, config: RunnableConfig | None) -> str:
    """Return the namespace that an object was given or, where it has none, that of ``config["configurable"]``.

    Raises:
        InputError: neither names one, or they name two.
    """
    asked = (config or {}).get("configurable", {}).get(NAMESPACE_KEY)
    if fixed is None and asked is None:
        raise InputError(
            "no namespace was given: name one with namespace=…, or with config={'configurable': {'namespace': …}}. "
            "What from_texts and from_documents took in without one is in 'default'"
        )
    if fixed is not None and asked not in (None, fixed):
        raise InputError(f"the config asks for namespace {asked!r} of a memory that is fixed to {fixed!r}")
    return check_namespace(asked if fixed is None else fixed)


def check_namespace(namespace: object) -> str:
    """Return ``namespace`` if it is a name.

    Raises:
        InputError: it is no string, or empty.
    """
    if not isinstance(namespace, str) or not namespace.strip():
        raise InputError(f"namespace is {namespace!r}: give it a name, such as the user's id")
    return namespace
