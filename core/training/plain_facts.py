"""What a sentence of an encyclopaedia plainly says of what its paragraph is about: dates, nationality, who made what.

A few patterns, each for one way of saying it. They miss most of what is said, and what they take is seldom wrong.
"""

import re
from typing import NamedTuple

from ..questions import Paragraph

MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_NATIONS_SAID = (
    "American=United States|British=United Kingdom|English=England|Scottish=Scotland|Welsh=Wales|"
    "Irish=Ireland|French=France|German=Germany|Italian=Italy|Spanish=Spain|Portuguese=Portugal|"
    "Dutch=Netherlands|Belgian=Belgium|Swiss=Switzerland|Austrian=Austria|Hungarian=Hungary|Polish=Poland|"
    "Czech=Czech Republic|Slovak=Slovakia|Romanian=Romania|Bulgarian=Bulgaria|Greek=Greece|Turkish=Turkey|"
    "Russian=Russia|Soviet=Soviet Union|Ukrainian=Ukraine|Estonian=Estonia|Latvian=Latvia|"
    "Lithuanian=Lithuania|Finnish=Finland|Swedish=Sweden|Norwegian=Norway|Danish=Denmark|"
    "Icelandic=Iceland|Serbian=Serbia|Croatian=Croatia|Slovenian=Slovenia|Canadian=Canada|Mexican=Mexico|"
    "Cuban=Cuba|Brazilian=Brazil|Argentine=Argentina|Chilean=Chile|Peruvian=Peru|Colombian=Colombia|"
    "Venezuelan=Venezuela|Australian=Australia|Indian=India|Pakistani=Pakistan|Bangladeshi=Bangladesh|"
    "Chinese=China|Japanese=Japan|Korean=Korea|Vietnamese=Vietnam|Thai=Thailand|Indonesian=Indonesia|"
    "Filipino=Philippines|Malaysian=Malaysia|Iranian=Iran|Iraqi=Iraq|Israeli=Israel|Lebanese=Lebanon|"
    "Egyptian=Egypt|Moroccan=Morocco|Algerian=Algeria|Nigerian=Nigeria|Ghanaian=Ghana|Kenyan=Kenya|"
    "Armenian=Armenia|Georgian=Georgia|Azerbaijani=Azerbaijan|Jamaican=Jamaica"
)
NATIONS = dict(pair.split("=") for pair in _NATIONS_SAID.split("|"))
"""Adjective and country; what is not here is not taken."""
OLDEST = 110
"""Years that a person lives, at most."""

Key = tuple[int, ...]
"""Of a date: year, and month and day where they are told."""


class Fact(NamedTuple):
    """What one sentence says of what its paragraph is about."""

    said: str
    sentence: int
    key: Key = ()
    """Of a date: year, and month and day where they are told."""


class Entity(NamedTuple):
    """A paragraph, and what is known from it of what it is about."""

    paragraph: Paragraph
    facts: dict[str, Fact]

    @property
    def name(self) -> str:
        """The title without what tells it from others of the same name."""
        return re.sub(r"\s*\([^()]*\)$", "", self.paragraph.title)


def read_entity(paragraph: Paragraph) -> Entity:
    """Take what follows a plain pattern out of ``paragraph``."""
    facts = dict[str, Fact]()
    for number, said in enumerate(paragraph.sentences):
        for pattern, anywhere in _PATTERNS:
            if (number == 0 or anywhere) and (match := pattern.search(said)):
                for name, value in match.groupdict().items():
                    if value and name not in facts:
                        facts[name] = Fact(" ".join(value.split()), number, _key(value))
    if re.search(r"^List of|discography$|&\w+;", paragraph.title):
        facts.clear()
    lived = facts.get("born"), facts.get("died")
    if lived[0] and lived[1] and not 0 < lived[1].key[0] - lived[0].key[0] < OLDEST:
        del facts["born"], facts["died"]
    if "born" not in facts:  # it is of a film or a band
        facts.pop("nation", None)
        facts.pop("award", None)
    return Entity(paragraph, facts)


def _key(said: str) -> Key:
    year = re.search(r"\b(\d{4})\b", said)
    if year is None:
        return ()
    month = next((n for n, name in enumerate(MONTHS, 1) if name in said), 0)
    day = re.search(r"\b(\d{1,2})\b", said)
    return (int(year[1]), month, int(day[1])) if month and day else (int(year[1]),)


_MONTH = "|".join(MONTHS)
_DATE = rf"(?:\d{{1,2}} (?:{_MONTH})|(?:{_MONTH}) \d{{1,2}}),? \d{{4}}"
_YEAR = r"\b\d{4}\b"
_WORD = r"[A-Z][\w'’\-]*"
_INITIAL = r"(?:\.(?= [A-Z]))?"
_LINKING = r"(?:de|van|von|der|da|di|la|le|el|al|bin|ibn|of)(?= [A-Z])"
_RANK = r"(?:, (?:Duke|Count|King|Prince|Earl|Marquess|Baron|Elector|Landgrave|\d+\w\w) [^,.()]+)?"
# Atomic: what must not follow a name may not be helped by leaving off its end.
_NAME = rf"(?>{_WORD}{_INITIAL}(?: (?:{_WORD}{_INITIAL}|{_LINKING}))*{_RANK})"
_ALONE = r"(?<! [A-Z])(?! and |\s?&|, [A-Z])"
"""After a name: it is whole, and no other is named beside it."""
_PLACE = rf"(?!(?:{_MONTH})\b)(?>{_WORD}(?: {_WORD})*)(?:, (?>{_WORD}(?: {_WORD})*))?"
_ADJECTIVES = "|".join(NATIONS)
_COUNTRIES = "|".join(sorted({*NATIONS.values(), "New Zealand", "South Africa", "Sri Lanka", "Nepal", "Mongolia"}))
_BODIES = "band|group|company|magazine|newspaper|university|college|school|club|organization|organisation|museum"
_SITES = "village|town|city|municipality|commune|river|lake|mountain|island|airport|school|castle|university|district"

_NAMED = r"^(?:(?! (?:is|was|are|were) )[^()]){1,70}(?:\([^()]*\)[^()]{0,10})?\(\s*[^()]*?"
"""A paragraph begins with what it is about, other names of it and an opening bracket."""
_MADE = r"^(?:It|The film) (?:is|was) (?:[a-z]+ ){0,4}"
_RECORDED = r"\b(?:is|was) (?:an?|the) .{0,40}?\b(?:song|single|album)\b .{0,40}?\b(?:by|from) (?:the )?"
_PRIZE = r"(?:[A-Z][\w'’.\-]+ ){1,5}(?:Award|Prize|Medal)s?"
# What a paragraph is about stands in its first sentence; further on it may be of somebody else, if not by the pattern.
_PATTERNS = tuple(
    (re.compile(pattern), anywhere)
    for pattern, anywhere in (
        (rf"{_NAMED}(?P<born>{_DATE}|{_YEAR})[^()]*?\s*[–—-]\s*[^()]*?(?P<died>{_DATE}|{_YEAR})", False),
        (rf"{_NAMED}\bborn:? [^()]*?(?P<born>{_DATE}|{_YEAR})(?: in (?P<birthplace>{_PLACE}))?", False),
        (rf"\b(?:is|was) an? (?:[a-z]+ ){{0,2}}(?P<nation>{_ADJECTIVES})(?= [a-z])", False),
        (rf"^(?:He|She) was born (?:on (?P<born>{_DATE}) )?in (?P<birthplace>{_PLACE})", True),
        (rf"^(?:He|She) died (?:[a-z]+ ){{0,5}}(?:on {_DATE} )?in (?P<deathplace>{_PLACE})", True),
        (r"\b(?:is|was) an? (?:[a-z]+ )?(?P<released>\d{4}) .{0,60}?\b(?:film|movie)\b", False),
        (rf"\bfilm\b.{{0,60}}?\bdirected by (?P<director>{_NAME}){_ALONE}", False),
        (rf"{_MADE}directed by (?P<director>{_NAME}){_ALONE}", True),
        (
            rf"{_RECORDED}(?:{_ADJECTIVES})?(?: ?[a-z\-/&]+){{0,6}} ?\b(?!(?:{_ADJECTIVES}) |\S+-based)"
            rf"(?P<performer>{_NAME})(?! \d)",
            False,
        ),
        (
            rf"\b(?:son|daughter|child) of (?:[a-z]+ ){{0,2}}(?P<father>{_NAME})"
            rf"(?:,? and (?:of )?(?:his (?:[a-z]+ )*wife,? )?(?P<mother>{_NAME}))?",
            False,
        ),
        (rf"\b(?:wife|widow) of (?:[a-z]+ ){{0,3}}(?P<husband>{_NAME})", False),
        (rf"\bhusband of (?:[a-z]+ ){{0,3}}(?P<wife>{_NAME})", False),
        (rf"\b(?:music|score|soundtrack)\b.{{0,30}}\bby (?P<composer>{_NAME}){_ALONE}", True),
        (rf"\b(?:won|received|awarded) (?:the |an? |two |three )?(?P<award>{_PRIZE})\b", True),
        (rf"\b(?:{_BODIES})\b.{{0,80}}?\b(?:founded|formed|established) in (?:\w+ )?(?P<founded>\d{{4}})\b", False),
        (
            rf"\b(?:is|was) an? (?:[a-z]+ ){{0,3}}(?:{_SITES})\b"
            rf".{{0,90}}?\b(?<!South )(?P<country>{_COUNTRIES})(?=[.,]|$)",
            False,
        ),
    )
)
