"""What is nearest to a question, by embeddings that are made or known."""

from pydoc_data.topics import topics

from core.embedder import Embedder


def test_the_passages_that_raw_shows_are_found_by_the_stored_embeddings(default_embedder: Embedder) -> None:
    text = "\n\n".join(topics[name] for name in ("while", "for", "try"))
    passages = [text[start:end] for start, end in default_embedder.passages(text)]
    known = default_embedder.embed(passages)
    assert len(passages) > 4
    for question in ("When is the else clause of a loop executed?", "What does finally do?"):
        plain = default_embedder.nearest_passages(text, question, 2)
        assert default_embedder.nearest_passages(text, question, 2, known) == plain
        # What is known is believed, so that nothing is embedded again; what cannot be of this text is not.
        assert default_embedder.nearest_passages(text, question, 2, known[::-1]) != plain
        assert default_embedder.nearest_passages(text, question, 2, known[:-1]) == plain
