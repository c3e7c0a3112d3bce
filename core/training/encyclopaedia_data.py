"""Questions of one or more hops on encyclopaedic text: which of two is older, where the director of a film was born.

``python -m core.training.encyclopaedia_data DATA FILE.jsonl.gz`` reads the paragraphs of a data folder, of its pool and
of its questions, takes out of their sentences what follows a plain pattern (dates of birth and death, nationality, who
directed what, when something was founded) and asks for it alone, across two paragraphs and in comparison, in the kinds
that 2WikiMultiHopQA has (Ho et al., arXiv 2011.01060, section 3, which makes its questions from a knowledge base). A
small reader that has seen a few hundred comparisons answers them by chance; these are as many as one likes. Written in
the schema of ``training/data.md``, to be laid beside the other training files; the same file for the same folder.

Adapters that are measured on a data set must not learn from its paragraphs: name its files with ``--without``.
"""

import gzip
import json
import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Annotated, NamedTuple

import typer

from ..errors import InputError
from ..prompts import FIRST, LAST, compared, through
from ..questions import Paragraph, Question, read_pool, read_questions
from .material import pool_file, question_files
from .plain_facts import NATIONS, OLDEST, Entity, Fact, Key, read_entity

_log = logging.getLogger(__name__)

DATASET = "encyclopaedia"
_DISTRACTORS = 4
_USES = 24
"""Questions in which a paragraph is gold, at most."""
_NEAR_YEARS = 12
"""Half of the comparisons of years are between years that lie no further apart."""
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
        self._links = {kind: [pair for e in self._with[kind] if (pair := self._link(e, kind))] for kind in _LINKS}

    def kinds(self) -> list[tuple[Make, float]]:
        """Return how each kind is drawn, and its share."""
        return [
            (lambda: self._compared("born", _BORN), 5),
            (lambda: self._compared("died", _DIED), 2),
            (lambda: self._compared("released", _RELEASED), 2.5),
            (lambda: self._compared("founded", _FOUNDED), 1.5),
            (lambda: self._same("nation", _SAME_NATION), 2.5),
            (lambda: self._same("country", _SAME_COUNTRY), 1.5),
            (lambda: self._linked("director", _OF_FILM), 6),
            (lambda: self._linked("performer", _OF_SONG), 1.5),
            (lambda: self._linked("composer", _OF_SCORE), 1),
            *((partial(self._linked, kind, _of_family(kind)), 1.0) for kind in _FAMILY),
            (self._grandparent, 2),
            (lambda: self._linked_compared("born", _FILM_BORN), 3.5),
            (lambda: self._linked_compared("died", _FILM_DIED), 1.5),
            (self._linked_same, 2.5),
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

    def _pair(self, kind: str) -> tuple[Entity, Entity] | None:
        """Two whose dates differ, near each other in half of the cases, or as far as those that are drawn."""
        if len(self._with[kind]) < 2:
            return None
        one, *others = self._random.sample(self._with[kind], min(len(self._with[kind]), 40))
        here = one.facts[kind].key
        if self._random.random() < 0.5:
            others = [e for e in others if abs(e.facts[kind].key[0] - here[0]) <= _NEAR_YEARS]
        others = [e for e in others if _before(here, e.facts[kind].key) is not None and e.name != one.name]
        return (one, others[0]) if others else None

    def _compared(self, kind: str, wordings: Sequence[tuple[str, bool]]) -> _Asked | None:
        pair = self._pair(kind)
        if pair is None:
            return None
        wording, first = self._random.choice(wordings)
        one, two = pair
        chosen = one if _before(one.facts[kind].key, two.facts[kind].key) == first else two
        shown = self._shown(one), self._shown(two)
        working = _dated(shown, (one.facts[kind].key, two.facts[kind].key), first)
        text = wording.format(one=shown[0], two=shown[1])
        return _Asked("comparison", text, _names(chosen), ((one, kind), (two, kind)), working)

    def _same(self, kind: str, wordings: Sequence[str]) -> _Asked | None:
        if len(self._with[kind]) < 2:
            return None
        one, *others = self._random.sample(self._with[kind], min(60, len(self._with[kind])))
        same = self._yes
        fitting = [e for e in others if (e.facts[kind].said == one.facts[kind].said) == same and e.name != one.name]
        if not fitting:
            return None
        self._yes, two = not same, fitting[0]
        shown = self._shown(one), self._shown(two)
        text = self._random.choice(wordings).format(one=shown[0], two=shown[1])
        working = f"{shown[0]}: {one.facts[kind].said}; {shown[1]}: {two.facts[kind].said}"
        return _Asked("comparison", text, ("yes" if same else "no",), ((one, kind), (two, kind)), working)

    def _linked(self, link: str, wordings: Mapping[str, Sequence[str]]) -> _Asked | None:
        if not self._links[link]:
            return None
        one, two = self._random.choice(self._links[link])
        known = [kind for kind in wordings if kind in two.facts]
        if not known:
            return None
        kind = self._random.choice(known)
        text = self._random.choice(wordings[kind]).format(one=self._shown(one))
        return _Asked("compositional", text, _answers(two.facts[kind], kind), ((one, link), (two, kind)))

    def _grandparent(self) -> _Asked | None:
        kind, last = self._random.choice(("father", "mother")), self._random.choice(("father", "mother"))
        known = [pair for pair in self._links[kind] if "mother" in pair[1].facts]  # and the one before is the father
        if not known:
            return None
        one, two = self._random.choice(known)
        side = "paternal" if kind == "father" else "maternal"
        text = self._random.choice(_GRANDPARENT).format(one=self._shown(one), who=f"{side} grand{last}")
        return _Asked("inference", text, (two.facts[last].said,), ((one, kind), (two, last)))

    def _two_linked(self, kind: str) -> tuple[tuple[Entity, Entity], tuple[Entity, Entity]] | None:
        known = [pair for pair in self._links["director"] if kind in pair[1].facts]
        if len(known) < 2:
            return None
        one, two = self._random.sample(known, 2)
        return (one, two) if one[1].name != two[1].name and one[0].name != two[0].name else None

    def _linked_compared(self, kind: str, wordings: Sequence[tuple[str, bool]]) -> _Asked | None:
        found = self._two_linked(kind)
        if found is None:
            return None
        (film, maker), (other, its) = found
        before = _before(maker.facts[kind].key, its.facts[kind].key)
        if before is None:
            return None
        wording, first = self._random.choice(wordings)
        chosen = film if before == first else other
        shown = self._shown(film), self._shown(other)
        known = through(shown[0], maker.name), through(shown[1], its.name)
        working = _dated(known, (maker.facts[kind].key, its.facts[kind].key), first)
        evidence = ((film, "director"), (maker, kind), (other, "director"), (its, kind))
        text = wording.format(one=shown[0], two=shown[1])
        return _Asked("bridge_comparison", text, _names(chosen), evidence, working)

    def _linked_same(self) -> _Asked | None:
        found = self._two_linked("nation")
        if found is None:
            return None
        (film, maker), (other, its) = found
        same = maker.facts["nation"].said == its.facts["nation"].said
        if same != self._yes:
            return None
        self._yes = not same
        shown = self._shown(film), self._shown(other)
        known = through(shown[0], maker.name), through(shown[1], its.name)
        working = f"{known[0]}: {maker.facts['nation'].said}; {known[1]}: {its.facts['nation'].said}"
        evidence = ((film, "director"), (maker, "nation"), (other, "director"), (its, "nation"))
        text = self._random.choice(_FILM_SAME).format(one=shown[0], two=shown[1])
        return _Asked("bridge_comparison", text, ("yes" if same else "no",), evidence, working)

    def _alone(self) -> _Asked | None:
        kind = self._random.choice(list(_ALONE))
        if not self._with[kind]:
            return None
        one = self._random.choice(self._with[kind])
        text = self._random.choice(_ALONE[kind]).format(one=self._shown(one))
        return _Asked("single", text, _answers(one.facts[kind], kind), ((one, kind),))


def _before(one: Key, other: Key) -> bool | None:
    """Return whether ``one`` is of an earlier year than ``other``; ``None``: they are of the same."""
    return one[0] < other[0] if one[0] != other[0] else None


def _dated(known: tuple[str, str], keys: tuple[Key, Key], first: bool) -> str:
    return compared(known[0], keys[0][0], known[1], keys[1][0], FIRST if first else LAST)


def _names(entity: Entity) -> tuple[str, ...]:
    return tuple(dict.fromkeys((entity.name, entity.paragraph.title)))


def _answers(fact: Fact, kind: str) -> tuple[str, ...]:
    return (fact.said, NATIONS[fact.said]) if kind == "nation" else (fact.said,)


_FAMILY = {"father": False, "mother": True, "husband": False, "wife": True}
"""Whether each is a woman."""
_LINKS = ("director", "performer", "composer", *_FAMILY)
_BORN = (
    ("Who is older, {one} or {two}?", True),
    ("Who was born first, {one} or {two}?", True),
    ("Who was born earlier, {one} or {two}?", True),
    ("Which person was born first, {one} or {two}?", True),
    ("Who is younger, {one} or {two}?", False),
    ("Who was born later, {one} or {two}?", False),
    ("Is {one} or {two} the younger one?", False),
)
_DIED = (
    ("Who died first, {one} or {two}?", True),
    ("Who died earlier, {one} or {two}?", True),
    ("Who died later, {one} or {two}?", False),
)
_RELEASED = (
    ("Which film was released first, {one} or {two}?", True),
    ("Which film came out first, {one} or {two}?", True),
    ("Which film was released earlier, {one} or {two}?", True),
    ("Which film is older, {one} or {two}?", True),
    ("Which film was released more recently, {one} or {two}?", False),
    ("Which film came out later, {one} or {two}?", False),
)
_FOUNDED = (
    ("Which was founded first, {one} or {two}?", True),
    ("Which was established earlier, {one} or {two}?", True),
    ("Which one is older, {one} or {two}?", True),
    ("Which was founded later, {one} or {two}?", False),
    ("Which was formed more recently, {one} or {two}?", False),
)
_SAME_NATION = (
    "Are {one} and {two} of the same nationality?",
    "Were {one} and {two} from the same country?",
    "Do {one} and {two} have the same nationality?",
    "Does {one} have the same nationality as {two}?",
    "Are both {one} and {two} from the same country?",
)
_SAME_COUNTRY = (
    "Are {one} and {two} located in the same country?",
    "Are both {one} and {two} in the same country?",
    "Do {one} and {two} lie in the same country?",
)
_OF_FILM = {
    "born": (
        "When was the director of film {one} born?",
        "When is the birthday of the director of {one}?",
        "What is the date of birth of the director of film {one}?",
    ),
    "died": ("When did the director of film {one} die?", "What is the date of death of the director of {one}?"),
    "birthplace": (
        "Where was the director of film {one} born?",
        "What is the place of birth of the director of film {one}?",
        "In which place was the director of {one} born?",
    ),
    "deathplace": ("Where did the director of film {one} die?", "What is the place of death of the director of {one}?"),
    "nation": (
        "What nationality is the director of film {one}?",
        "Which country is the director of film {one} from?",
        "What is the nationality of the director of {one}?",
    ),
    "father": ("Who is the father of the director of film {one}?",),
    "wife": ("Who is the spouse of the director of film {one}?",),
    "husband": ("Who is the spouse of the director of film {one}?",),
    "award": ("Which award did the director of film {one} receive?", "What award did the director of {one} win?"),
}
_OF_SONG = {
    kind: tuple(w.replace("director of film", "performer of song").replace("director", "performer") for w in asked)
    for kind, asked in _OF_FILM.items()
}
_OF_SCORE = {
    kind: tuple(w.replace("director of {one}", "composer of film {one}").replace("director", "composer") for w in asked)
    for kind, asked in _OF_FILM.items()
}


def _of_family(who: str) -> dict[str, tuple[str, ...]]:
    return {
        "born": (f"When was {{one}}'s {who} born?", f"When is the birthday of the {who} of {{one}}?"),
        "died": (f"When did {{one}}'s {who} die?", f"What is the date of death of {{one}}'s {who}?"),
        "birthplace": (f"Where was the {who} of {{one}} born?", f"What is the place of birth of {{one}}'s {who}?"),
        "deathplace": (f"Where did {{one}}'s {who} die?", f"Where was the place of death of {{one}}'s {who}?"),
    }


_GRANDPARENT = ("Who is the {who} of {one}?", "Who is {one}'s {who}?")
_FILM_BORN = (
    ("Which film has the director who was born first, {one} or {two}?", True),
    ("Which film has the director who is older, {one} or {two}?", True),
    ("Which film whose director was born earlier, {one} or {two}?", True),
    ("Which film has the director born later, {one} or {two}?", False),
    ("Which film has the director who is younger, {one} or {two}?", False),
    ("Which film whose director is younger, {one} or {two}?", False),
)
_FILM_DIED = (
    ("Which film has the director died first, {one} or {two}?", True),
    ("Which film has the director who died earlier, {one} or {two}?", True),
    ("Which film has the director who died later, {one} or {two}?", False),
)
_FILM_SAME = (
    "Do both films {one} and {two} have the directors from the same country?",
    "Are the directors of {one} and {two} from the same country?",
    "Do the directors of films {one} and {two} share the same nationality?",
    "Are both directors of films {one} and {two} of the same nationality?",
)
_ALONE = {
    "born": ("When was {one} born?", "What is {one}'s date of birth?"),
    "died": ("When did {one} die?",),
    "birthplace": ("Where was {one} born?", "What is the birthplace of {one}?"),
    "deathplace": ("Where did {one} die?",),
    "director": ("Who directed {one}?", "Who is the director of the film {one}?"),
    "performer": ("Who is the performer of {one}?", "Who recorded {one}?"),
    "released": ("When was {one} released?", "In which year did {one} come out?"),
    "founded": ("When was {one} founded?", "In what year was {one} formed?"),
    "mother": ("Who is the mother of {one}?", "Who is {one}'s mother?"),
    "husband": ("Who is the husband of {one}?", "Who was {one} married to?"),
    "award": ("Which award did {one} win?",),
    "country": ("In which country is {one}?", "Which country is {one} in?"),
    "nation": ("What is the nationality of {one}?", "What nationality is {one}?"),
}


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
    rows = [q.model_dump(mode="json") | {"split": "train"} for q in encyclopaedia_questions(kept, count, seed)]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode(), mtime=0))
    _log.info("%s: %d questions on %d paragraphs, %d left out", file, len(rows), len(kept), len(found) - len(kept))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    typer.run(main)
