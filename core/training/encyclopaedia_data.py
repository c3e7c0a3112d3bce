"""Questions of one or more hops on encyclopaedic text: which of two is older, where the director of a film was born.

``python -m core.training.encyclopaedia_data DATA FILE.jsonl.gz`` reads the paragraphs of a data folder, of its pool and
of its questions, takes out of their sentences what follows a plain pattern (dates of birth and death, nationality, who
directed what, when something was founded) and asks for it alone, across two paragraphs and in comparison, in the kinds
that 2WikiMultiHopQA has (Ho et al., arXiv 2011.01060, section 3, which makes its questions from a knowledge base). A
small reader that has seen a few hundred comparisons answers them by chance; these are as many as one likes. Written in
the schema of ``training/data.md``, to be laid beside the other training files; the same file for the same folder.

Adapters that are measured on a data set must not learn from its paragraphs: name its files with ``--without``.
"""

import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Annotated, NamedTuple

import typer

from ..errors import InputError
from ..questions import Paragraph, Question, read_pool, read_questions
from ..working import FIRST, LAST, through
from . import wordings
from .material import pool_file, question_files, write_questions
from .plain_facts import NATIONS, OLDEST, Entity, Fact, read_entity

_log = logging.getLogger(__name__)

DATASET = "encyclopaedia"
_DISTRACTORS = 4
_USES = 24
"""Questions in which a paragraph is gold, at most."""
_NEAR_YEARS = 12
"""Half of the comparisons of years are between years that lie no further apart."""
_DRAWN = 60
"""Drawn to find one that fits another."""
_TRIES = 60
"""Draws for a question before its kind is given up."""

_YOUNGEST = 14
"""Years of somebody who directs a film, at least."""


class _Asked(NamedTuple):
    kind: str
    question: str
    answers: tuple[str, ...]
    evidence: tuple[tuple[Entity, str], ...]
    """Entities, and which fact of each is needed."""
    working: str | None = None


def encyclopaedia_questions(paragraphs: Iterable[Paragraph], count: int, seed: int = 0) -> Iterator[Question]:
    """Yield up to ``count`` questions whose answers follow from labelled sentences of ``paragraphs``.

    Raises:
        InputError: nothing can be asked about these paragraphs.
    """
    entities = [e for e in map(read_entity, {p.text: p for p in paragraphs}.values()) if e.facts]
    draw = _Draw(entities, Random(seed))
    kinds, shares = zip(*draw.kinds(), strict=True)
    asked = set[str]()
    for number in range(count):
        found = draw.one(kinds, shares, asked)
        if found is None:
            break
        asked.add(found.question)
        yield draw.question(found, number)
    if not asked:
        raise InputError(f"{len(entities)} paragraphs say something plain, too few to ask about: give more text")


_FAMILY = {"father": False, "mother": True, "husband": False, "wife": True}
"""Whether each is a woman."""
_Pair = tuple[Entity, Entity]
Make = Callable[[], "_Asked | None"]


class _Draw:
    """Draws questions of each kind out of entities."""

    def __init__(self, entities: Sequence[Entity], random: Random) -> None:
        self._random = random
        self._uses: dict[str, int] = defaultdict(int)
        self._yes = True
        """What the next question that is answered so is answered: half of them yes."""
        self._with: dict[str, list[Entity]] = defaultdict(list)
        self._called: dict[str, list[Entity]] = defaultdict(list)
        self._near: dict[str, list[Entity]] = defaultdict(list)
        for entity in entities:
            for kind in entity.facts:
                self._with[kind].append(entity)
            self._called[entity.name].append(entity)
            for word in set(re.findall(r"\w{4,}", entity.name)):
                self._near[word].append(entity)
        self._begun: dict[str, list[Entity]] = defaultdict(list)
        for entity in self._with["born"]:
            parts = entity.name.split()
            for count in range(2, len(parts)):
                self._begun[" ".join(parts[:count]).rstrip(",")].append(entity)
        self._links = {
            link: [pair for e in self._with[link] if (pair := self._link(e, link))] for link in wordings.BY_WAY
        }
        self._own = {kind: [(e, e) for e in held] for kind, held in self._with.items()}

    def kinds(self) -> list[tuple[Make, float]]:
        """Return how each kind is drawn, and its share."""
        return [
            (partial(self._first_or_last, "born", wordings.BORN), 5),
            (partial(self._first_or_last, "died", wordings.DIED), 2),
            (partial(self._first_or_last, "released", wordings.RELEASED), 2.5),
            (partial(self._first_or_last, "founded", wordings.FOUNDED), 1.5),
            (partial(self._first_or_last, "born", wordings.DIRECTOR_BORN, "director"), 3.5),
            (partial(self._first_or_last, "died", wordings.DIRECTOR_DIED, "director"), 1.5),
            (partial(self._alike, "nation", wordings.SAME_NATION), 2.5),
            (partial(self._alike, "country", wordings.SAME_COUNTRY), 1.5),
            (partial(self._alike, "nation", wordings.DIRECTORS_SAME, "director"), 2.5),
            (partial(self._by_way, "director"), 6),
            (partial(self._by_way, "performer"), 1.5),
            *((partial(self._by_way, link), 1.0) for link in ("composer", *_FAMILY)),
            (self._grandparent, 2),
            (self._alone, 2),
        ]

    def one(self, kinds: Sequence[Make], shares: Sequence[float], asked: set[str]) -> _Asked | None:
        """Draw one question that has not been asked; ``None``: nothing is left to ask."""
        for _ in range(_TRIES):
            make = self._random.choices(kinds, shares)[0]
            for _ in range(_TRIES):
                found = make()
                if found and found.question not in asked and all(self._left(e) for e, _ in found.evidence):
                    for entity, _ in found.evidence:
                        self._uses[entity.paragraph.text] += 1
                    return found
        return None

    def question(self, asked: _Asked, number: int) -> Question:
        """Return ``asked`` with its paragraphs, labelled, among others that look like them."""
        wanted: dict[str, tuple[Entity, set[int]]] = {}
        for entity, kind in asked.evidence:
            wanted.setdefault(entity.paragraph.text, (entity, set()))[1].add(entity.facts[kind].sentence)
        named = {entity.paragraph.title for entity, _ in wanted.values()}
        paragraphs = [
            entity.paragraph.model_copy(update={"support": tuple(sorted(rows))}) for entity, rows in wanted.values()
        ]
        others = dict[str, Paragraph]()
        for _ in range(4 * _DISTRACTORS):
            entity, kind = self._random.choice(asked.evidence)
            alike = [e for word in re.findall(r"\w{4,}", entity.name) for e in self._near[word]]
            other = self._random.choice(alike if alike and self._random.random() < 0.5 else self._with[kind]).paragraph
            if other.title not in named and len(others) < _DISTRACTORS:
                others[other.text] = other.model_copy(update={"support": ()})
        paragraphs += others.values()
        self._random.shuffle(paragraphs)
        return Question(
            id=f"encyclopaedia-{number}",
            dataset=DATASET,
            question=asked.question,
            answers=asked.answers,
            paragraphs=tuple(paragraphs),
            type=asked.kind,
            working=asked.working,
        )

    def _left(self, entity: Entity) -> bool:
        return self._uses[entity.paragraph.text] < _USES

    def _link(self, entity: Entity, kind: str) -> tuple[Entity, Entity] | None:
        """Return ``entity`` with the one other that its fact names, a person."""
        said = entity.facts[kind].said
        people = self._called[said]
        if kind in _FAMILY and not people and " " in said:
            people = self._begun[said]  # "Philip V" for Philip V of France
        people = [e for e in people if "born" in e.facts]
        if len(people) != 1 or people[0].name == entity.name:
            return None
        made, born = entity.facts.get("released"), people[0].facts["born"].key[0]
        if made and not _YOUNGEST < made.key[0] - born < OLDEST:
            return None  # of the same name
        # Of whom a son or daughter is named first may be the mother.
        text = people[0].paragraph.text
        if kind in _FAMILY and bool(re.search(r"\b(?:[Ss]he|[Hh]er|daughter of)\b", text)) != _FAMILY[kind]:
            return None
        return entity, people[0]

    def _shown(self, entity: Entity) -> str:
        """How a question names it: with what tells it apart, now and then."""
        return entity.paragraph.title if self._random.random() < 0.6 else entity.name

    def _two(self, kind: str, link: str | None, fits: Callable[[Fact, Fact], bool]) -> tuple[_Pair, _Pair] | None:
        """Draw two whose facts ``fits`` accepts, each what a question names and whose fact counts: its own, or that of
        what ``link`` leads to."""
        known = [pair for pair in self._links[link] if kind in pair[1].facts] if link else self._own.get(kind, [])
        if len(known) < 2:
            return None
        one, *others = self._random.sample(known, min(len(known), _DRAWN))
        for other in others:
            apart = all(mine.name != its.name for mine, its in zip(one, other, strict=True))
            if apart and fits(one[1].facts[kind], other[1].facts[kind]):
                return one, other
        return None

    def _first_or_last(self, kind: str, ways: Sequence[tuple[str, bool]], link: str | None = None) -> _Asked | None:
        most = _NEAR_YEARS if self._random.random() < 0.5 else 10_000
        two = self._two(kind, link, lambda a, b: 0 < abs(a.key[0] - b.key[0]) <= most)
        if two is None:
            return None
        way, first = self._random.choice(ways)
        years = [pair[1].facts[kind].key[0] for pair in two]
        chosen = two[0 if (years[0] < years[1]) == first else 1][0]
        return self._compared(two, kind, link, way, _names(chosen), years, "; " + (FIRST if first else LAST))

    def _alike(self, kind: str, ways: Sequence[str], link: str | None = None) -> _Asked | None:
        same = self._yes
        two = self._two(kind, link, lambda a, b: (a.said == b.said) == same)
        if two is None:
            return None
        self._yes = not same
        said = [pair[1].facts[kind].said for pair in two]
        return self._compared(two, kind, link, self._random.choice(ways), ("yes" if same else "no",), said)

    def _compared(
        self,
        two: tuple[_Pair, _Pair],
        kind: str,
        link: str | None,
        way: str,
        answers: tuple[str, ...],
        facts: Sequence[object],
        wanted: str = "",
    ) -> _Asked:
        shown = [self._shown(named) for named, _ in two]
        known = [through(name, pair[1].name) if link else name for name, pair in zip(shown, two, strict=True)]
        evidence = [step for named, holder in two for step in (*([(named, link)] if link else []), (holder, kind))]
        return _Asked(
            "bridge_comparison" if link else "comparison",
            way.format(one=shown[0], two=shown[1]),
            answers,
            tuple(evidence),
            f"{known[0]}: {facts[0]}; {known[1]}: {facts[1]}{wanted}",
        )

    def _by_way(self, link: str) -> _Asked | None:
        if not self._links[link]:
            return None
        one, two = self._random.choice(self._links[link])
        known = [kind for kind in wordings.ASKED if kind in two.facts]
        if not known:
            return None
        kind = self._random.choice(known)
        whom = self._random.choice(wordings.BY_WAY[link]).format(one=self._shown(one))
        text = self._random.choice(wordings.ASKED[kind]).format(whom=whom)
        return _Asked("compositional", text, _answers(two.facts[kind], kind), ((one, link), (two, kind)))

    def _grandparent(self) -> _Asked | None:
        kind, last = self._random.choice(("father", "mother")), self._random.choice(("father", "mother"))
        known = [pair for pair in self._links[kind] if "mother" in pair[1].facts]  # and the one before is the father
        if not known:
            return None
        one, two = self._random.choice(known)
        side = "paternal" if kind == "father" else "maternal"
        text = self._random.choice(wordings.GRANDPARENT).format(one=self._shown(one), who=f"{side} grand{last}")
        return _Asked("inference", text, (two.facts[last].said,), ((one, kind), (two, last)))

    def _alone(self) -> _Asked | None:
        ways = wordings.ASKED | wordings.OF_THINGS
        kind = self._random.choice(list(ways))
        if not self._with[kind]:
            return None
        one = self._random.choice(self._with[kind])
        shown = self._shown(one)
        text = self._random.choice(ways[kind]).format(one=shown, whom=shown)
        return _Asked("single", text, _answers(one.facts[kind], kind), ((one, kind),))


def _names(entity: Entity) -> tuple[str, ...]:
    return tuple(dict.fromkeys((entity.name, entity.paragraph.title)))


def _answers(fact: Fact, kind: str) -> tuple[str, ...]:
    return (fact.said, NATIONS[fact.said]) if kind == "nation" else (fact.said,)


def main(
    data: Annotated[Path, typer.Argument(help="Folder with train/*.jsonl[.gz] and pool/wikipedia.jsonl[.gz].")],
    file: Annotated[Path, typer.Argument(help="File to write, .jsonl.gz.")],
    count: Annotated[int, typer.Option(min=1, help="Questions.")] = 10000,
    without: Annotated[
        list[Path] | None, typer.Option(help="Questions whose gold paragraphs are left out: what is measured on.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of what is asked, and how.")] = 0,
) -> None:
    """Write questions of one and two hops and comparisons, on the paragraphs of a data folder."""
    measured = [p for path in without or () for question in read_questions(path) for p in question.gold]
    left_out = {p.title for p in measured} | {p.text for p in measured}
    pool = pool_file(data)
    found = list(read_pool(pool)) if pool else []
    for path in question_files(data):
        for question in read_questions(path):
            if not question.ordered and question.dataset != DATASET:
                found += [paragraph for paragraph in question.paragraphs if paragraph.title]
    kept = [p for p in found if p.title not in left_out and p.text not in left_out]
    written = write_questions(file, encyclopaedia_questions(kept, count, seed))
    _log.info("%s: %d questions on %d paragraphs, %d left out", file, written, len(kept), len(found) - len(kept))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    typer.run(main)
