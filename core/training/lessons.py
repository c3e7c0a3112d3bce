"""What the supervised warm start is shown: turns of the recall loop with the replies they should have had.

A lesson is a text with several turns that read it, or several turns that answer from notes, so that
what the turns have in common is read once. Everything is drawn from the questions by (seed, index):
the same lesson on every machine, in every process, after every resumption.

Targets quote a few words of a sentence, from the answer on, or from the name that leads on to the next
hop. The reasoner's notes are the document's own sentences anyway
(:func:`core.working_memory.find_evidence`), so nothing is lost, and a reply is a third as long. Quoting from
a sentence's beginning was tried first: a small model then has to find the answer, keep it to itself and
look back for where its sentence began, and after 2,000 examples it mostly quoted the topic sentence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from random import Random
from typing import Literal

from ..errors import InputError
from ..extraction import occurrences
from ..headings import titled
from ..prompts import (
    ANSWER_OPENING,
    ANSWER_STOP,
    UPDATE_OPENING,
    WORKING_END,
    WORKING_OPENING,
    answer_prompt,
    update_prompt,
)
from ..questions import Paragraph, Question
from ..settings import Form
from .shuffled import Shuffled

QUOTED_WORDS, _LEAST_QUOTED = 8, 4
"""Words of a sentence that a target quotes."""
_NOTHING = "none"
_ANSWERS_IN_LESSON = 8
_ANSWER_WORDS = 12
"""Of the longest answer that is learned from: a few words are asked for. (QED has answers of whole paragraphs, whose
tokens outweigh those of all other turns in a step.)"""
_DISTRACTED = 0.35
"""Share of the lessons on questions of several hops whose text is none of the question's gold paragraphs, but its
distractors, which look like what it asks for. In use the gate opens those too."""
_UNDER_HEADINGS = 0.5
"""Share of the answers whose notes stand behind the titles of what they are from."""
_HOPS_MORE = 3
_TEXT_WORDS: dict[Form, tuple[int, ...]] = {"raw": (90, 180), "compressed": (90, 180, 350, 700)}
"""Words of a lesson's text: of two passages of 128 tokens, or of chunks up to 1,024."""

_PARAGRAPH_CHARACTERS, _SENTENCE_CHARACTERS = 3000, 600


@dataclass(frozen=True)
class Turn:
    """One exchange: what the reasoner is shown, and what it should write."""

    user: str
    opening: str
    """The begun reply; ``target`` follows it."""
    target: str
    kind: Literal["reply", "reconstruction", "continuation"] = "reply"
    """A reply is the reasoner's, in the chat template. The others are of :mod:`core.training.pretraining`: plain
    text that the bare base reads, ``user`` and ``target`` running on."""


@dataclass(frozen=True)
class Lesson:
    """Turns that are read together."""

    chunk: str | None
    """Text that is open as slots before every turn; ``None``: nothing is."""
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class _Wanted:
    """A question as one text sees it."""

    question: str
    notes: tuple[str, ...]
    sentences: tuple[str, ...]
    """To be noted; empty where the text does not help."""
    anchors: tuple[str, ...] = ()
    """What a quotation begins at, best first."""
    recall: str | None = None


class Lessons:
    """An endless, seeded sequence of lessons: every paragraph once before any comes again."""

    def __init__(
        self, questions: Sequence[Question], forms: Sequence[Form], seed: int, *, answers: bool = True
    ) -> None:
        """
        Args:
            questions: those with one gold paragraph are grouped by it, in the order they come.
            forms: whether texts are shown in the prompt or opened as slots; drawn for each lesson.
            answers: whether some lessons answer from labelled evidence.

        Raises:
            InputError: there is nothing to learn from.
        """
        usable = usable_questions(questions)
        single = [q for q in usable if len(q.gold) == 1]
        self._by_paragraph = [list(group) for _, group in groupby(single, key=lambda q: q.gold[0].text)]
        self._place_of = {group[0].gold[0].text: place for place, group in enumerate(self._by_paragraph)}
        self._multi = [q for q in usable if len(q.gold) > 1]
        self._all = usable
        # The same question may come with other paragraphs, of which each helps.
        self._gold: dict[str, set[str]] = {}
        for q in usable:
            self._gold.setdefault(q.question, set()).update(p.text for p in q.gold)
        self._forms = tuple(forms)
        self._seed = seed
        first = range(0, len(usable) if answers else 0, _ANSWERS_IN_LESSON)
        plans = [
            *(("paragraph", i) for i in range(len(self._by_paragraph))),
            *(("hops", i) for i in range(len(self._multi))),
            *(("answers", i) for i in first),
        ]
        self._plans, self._answered = Shuffled(plans, seed), Shuffled(usable, seed, "answers")

    def __len__(self) -> int:
        """Lessons in one pass over the questions."""
        return len(self._plans)

    def at(self, index: int) -> Lesson:
        """Return lesson ``index``; any index from 0 on has one."""
        (kind, item), epoch, _ = self._plans.at(index)
        random = Random(f"{self._seed}:{epoch}:{kind}:{item}")
        if kind == "answers":
            # The order of answers is drawn anew in each pass.
            chosen = self._answered.order(epoch)[item : item + _ANSWERS_IN_LESSON]
            return Lesson(None, tuple(self.answer(q, random) for q in chosen))
        if kind == "paragraph":
            return self._paragraph(item, random)
        return self._hops(self._multi[item], random)

    def _paragraph(self, item: int, random: Random) -> Lesson:
        """Questions on one paragraph, among others of its neighbourhood; and one that nothing here answers."""
        groups = self._by_paragraph
        # Neighbours are of the same article where a file holds articles whole: the hardest to tell apart.
        near = [groups[i] for i in (item - 1, item + 1) if 0 <= i < len(groups)]
        far = groups[random.randrange(len(groups))]
        other = random.choice(near) if near and random.random() < 0.6 else far
        paragraphs = [groups[item][0].gold[0]]
        stranger = random.choice(random.choice(near) if near else far)
        if other is not groups[item] and len(groups[item]) == 1:
            paragraphs.append(other[0].gold[0])  # a lone question is joined by another
        form = random.choice(self._forms)
        text, shown = self._text(paragraphs, [p for g in (*near, far) for p in g[0].gold], form, random)
        asked = [q for group in (groups[item], other) for q in group[:8] if q.gold[0].text in shown]
        wanted = [_Wanted(q.question, self._noise(random), q.gold[0].supporting, q.answers) for q in asked]
        if not self._helps(text, stranger):
            wanted.append(_Wanted(stranger.question, self._noise(random), ()))
        return _lesson(text, wanted, form)

    def _hops(self, question: Question, random: Random) -> Lesson:
        """One of a question's gold paragraphs, with and without what the others say noted before."""
        gold = list(question.gold)
        random.shuffle(gold)
        here, *others = gold
        others = [p for p in others if p.text != here.text]
        distractors = [p for p in question.paragraphs if not p.support]
        random.shuffle(distractors)
        known = tuple(sentence for p in others for sentence in evidence(question, p))[:4]
        if distractors and random.random() < _DISTRACTED:
            return self._distracted(question, known, distractors, random)
        if not distractors:
            distractors = [random.choice(self._all).gold[0]]
        form = random.choice(self._forms)
        text, _ = self._text([here], [p for p in distractors if p.text != here.text], form, random)
        sentences = evidence(question, here)
        missing = [p.title for p in others if p.title and any(p.title in s for s in sentences)]
        links = (*missing, *(answer for _, answer in question.decomposition))
        wanted = [
            _Wanted(question.question, (), sentences, (*links, *question.answers), missing[0] if missing else None)
        ]
        if known:
            wanted.append(_Wanted(question.question, known, sentences, (*question.answers, *links)))
        stranger = random.choice(self._all)
        if not self._helps(text, stranger):
            wanted.append(_Wanted(stranger.question, self._noise(random), ()))
        return _lesson(text, wanted, form)

    def _distracted(
        self, question: Question, known: tuple[str, ...], distractors: Sequence[Paragraph], random: Random
    ) -> Lesson:
        """Paragraphs that look like what ``question`` asks for; one beside them holds what another question does."""
        other = random.choice(self._all)
        here = random.choice(other.gold)
        form = random.choice(self._forms)
        text, _ = self._text([here, distractors[0]], distractors[1:], form, random)
        wanted = [_Wanted(other.question, self._noise(random), evidence(other, here), other.answers)]
        if not self._helps(text, question):
            wanted += [_Wanted(question.question, notes, ()) for notes in dict.fromkeys(((), known))]
        return _lesson(text, wanted, form)

    def answer(self, question: Question, random: Random) -> Turn:
        """Return ``question``, one of those given, from labelled evidence amid other sentences."""
        over = random.random() < _UNDER_HEADINGS
        notes = [titled(p.title if over else None, said) for p in question.gold for said in evidence(question, p)][:6]
        near = self._near(question)
        noise = random.sample(near, min(len(near), random.randrange(4)))
        mixed = list(dict.fromkeys(notes + noise))
        if random.random() < 0.5:
            random.shuffle(mixed)
        return Turn(
            answer_prompt(question.question, mixed, ()), ANSWER_OPENING, f"{worked_answer(question)}{ANSWER_STOP}"
        )

    def _helps(self, text: str, question: Question) -> bool:
        return any(gold in text for gold in self._gold[question.question])

    def _near(self, question: Question) -> list[str]:
        """Sentences that a reasoner might note for ``question`` by mistake: of its distractors, or of the paragraphs
        before and after its own, which are of the same article where a file holds articles whole."""
        distracting = [p.sentences[0].strip() for p in question.paragraphs if not p.support and p.sentences]
        place = self._place_of.get(question.gold[0].text)
        if distracting or place is None:
            return distracting
        around = (self._by_paragraph[i] for i in (place - 1, place + 1) if 0 <= i < len(self._by_paragraph))
        return [q.gold[0].supporting[0] for group in around for q in group]

    def _noise(self, random: Random) -> tuple[str, ...]:
        """A note that does not matter, now and then: memory is seldom only what is needed."""
        if random.random() < 0.7:
            return ()
        return (random.choice(random.choice(self._all).gold[0].supporting),)

    def _text(
        self, needed: Sequence[Paragraph], fill: Sequence[Paragraph], form: Form, random: Random
    ) -> tuple[str, set[str]]:
        """Join the ``needed`` paragraphs and as many others as the drawn length has room for, in any order."""
        room = random.choice(_TEXT_WORDS[form]) - sum(len(p.text.split()) for p in needed)
        chosen = list(needed)
        strangers = (random.choice(self._all).gold[0] for _ in range(32))
        for paragraph in (*fill, *strangers):
            words = len(paragraph.text.split())
            if words <= room and all(paragraph.text != p.text for p in chosen):
                chosen.append(paragraph)
                room -= words
        random.shuffle(chosen)
        titled = random.random() < 0.5
        text = "\n\n".join(p.document if titled else p.text for p in chosen)
        return text, {p.text for p in chosen}


def usable_questions(questions: Sequence[Question]) -> list[Question]:
    """Return those of ``questions`` that can be learned from: with evidence in prose, and a short answer.

    Raises:
        InputError: there are fewer than two.
    """
    usable = [q for q in questions if q.gold and q.gold[0].supporting and _is_prose(q.gold) and _is_brief(q)]
    if len(usable) < 2:
        raise InputError(f"{len(usable)} questions with supporting sentences: give at least two, see --data")
    return usable


def hops_oftener(questions: Sequence[Question]) -> list[Question]:
    """Return ``questions`` with those of several hops four times each: there are few, and they are harder."""
    return [*questions, *_HOPS_MORE * [question for question in questions if len(question.gold) > 1]]


def evidence(question: Question, paragraph: Paragraph) -> tuple[str, ...]:
    """Return the sentences of a gold paragraph that are worth a note.

    Where a data set labels whole paragraphs, they are those that name an answer, the title of another gold
    paragraph or the answer to a part of the question; where none does, the first, which says what it is about.
    """
    if len(paragraph.support) < len(paragraph.sentences) or len(paragraph.support) == 1:
        return paragraph.supporting
    titles = (p.title for p in question.gold if p.text != paragraph.text)
    names = (*question.answers, *titles, *(answer for _, answer in question.decomposition))
    naming = tuple(s for s in paragraph.supporting if any(_place(name, s) is not None for name in names))
    return naming or paragraph.supporting[:1]


def worked_answer(question: Question) -> str:
    """Return the answer, behind the facts that it follows from where the data has them."""
    working = f"{WORKING_OPENING}{question.working}{WORKING_END}" if question.working else ""
    return f"{working}{question.answers[0]}"


def _place(anchor: str, sentence: str) -> int | None:
    """Return where ``anchor`` stands in ``sentence`` as whole words in any case; ``None``: nowhere."""
    found = occurrences(anchor, sentence)
    return found[0].start if found else None


def _is_prose(gold: Sequence[Paragraph]) -> bool:
    """Whether paragraphs and supporting sentences are of a length to be read; tables run to ten thousand tokens."""
    sentences = (sentence for paragraph in gold for sentence in paragraph.supporting)
    return all(len(p.text) <= _PARAGRAPH_CHARACTERS for p in gold) and all(
        len(sentence) <= _SENTENCE_CHARACTERS for sentence in sentences
    )


def _is_brief(question: Question) -> bool:
    return len(question.answers[0].split()) <= _ANSWER_WORDS


def _lesson(text: str, wanted: Sequence[_Wanted], form: Form) -> Lesson:
    shown = text if form == "raw" else None
    turns = tuple(
        Turn(update_prompt(w.question, w.notes, (), shown), UPDATE_OPENING, _update_target(w)) for w in wanted
    )
    return Lesson(None if form == "raw" else text, turns)


def _update_target(wanted: _Wanted) -> str:
    lines = [quotation(sentence, wanted.anchors) for sentence in wanted.sentences[:3]] or [_NOTHING]
    recall = f"<recall>{wanted.recall}</recall>" if wanted.recall else ""
    return "\n".join(lines) + "</update>" + recall


def quotation(sentence: str, anchors: Sequence[str]) -> str:
    """Return up to eight words of ``sentence``, from the first of ``anchors`` that stands in it, else from its
    beginning; near its end from a little before, so that four words are left to know the sentence by."""
    places = (_place(anchor, sentence) for anchor in anchors)
    start = next((place for place in places if place is not None), 0)
    before, after = sentence[:start].split(), sentence[start:].split()
    lead = before[len(before) - max(0, _LEAST_QUOTED - len(after)) :] if before else []
    return " ".join([*lead, *after][:QUOTED_WORDS])
