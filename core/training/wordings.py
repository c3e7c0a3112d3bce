"""How questions on plain facts are worded: see :mod:`core.training.encyclopaedia_data`.

``{one}`` and ``{two}`` stand for what is asked about, ``{whom}`` for somebody, by name or by what they are to
``{one}``.
"""

ASKED = {
    "born": ("When was {whom} born?", "When is the birthday of {whom}?", "What is the date of birth of {whom}?"),
    "died": ("When did {whom} die?", "What is the date of death of {whom}?"),
    "birthplace": ("Where was {whom} born?", "What is the place of birth of {whom}?"),
    "deathplace": ("Where did {whom} die?", "Where was the place of death of {whom}?"),
    "nation": ("What nationality is {whom}?", "Which country is {whom} from?", "What is the nationality of {whom}?"),
    "mother": ("Who is the mother of {whom}?",),
    "wife": ("Who is the spouse of {whom}?",),
    "husband": ("Who is the spouse of {whom}?",),
    "award": ("Which award did {whom} receive?", "What award did {whom} win?"),
}
"""By the fact of a person that is asked for."""
BY_WAY = {
    "director": ("the director of film {one}", "the director of {one}"),
    "performer": ("the performer of song {one}", "the performer of {one}"),
    "composer": ("the composer of film {one}", "the composer of {one}"),
    "father": ("{one}'s father", "the father of {one}"),
    "mother": ("{one}'s mother", "the mother of {one}"),
    "husband": ("{one}'s husband", "the husband of {one}"),
    "wife": ("{one}'s wife", "the wife of {one}"),
}
"""By the fact of one paragraph that leads to another."""
OF_THINGS = {
    "director": ("Who directed {one}?", "Who is the director of the film {one}?"),
    "performer": ("Who is the performer of {one}?", "Who recorded {one}?"),
    "released": ("When was {one} released?", "In which year did {one} come out?"),
    "founded": ("When was {one} founded?", "In what year was {one} formed?"),
    "country": ("In which country is {one}?", "Which country is {one} in?"),
}
GRANDPARENT = ("Who is the {who} of {one}?", "Who is {one}'s {who}?")
# Of two: with whether the first is asked for.
BORN = (
    ("Who is older, {one} or {two}?", True),
    ("Who was born first, {one} or {two}?", True),
    ("Who was born earlier, {one} or {two}?", True),
    ("Which person was born first, {one} or {two}?", True),
    ("Who is younger, {one} or {two}?", False),
    ("Who was born later, {one} or {two}?", False),
    ("Is {one} or {two} the younger one?", False),
)
DIED = (
    ("Who died first, {one} or {two}?", True),
    ("Who died earlier, {one} or {two}?", True),
    ("Who died later, {one} or {two}?", False),
)
RELEASED = (
    ("Which film was released first, {one} or {two}?", True),
    ("Which film came out first, {one} or {two}?", True),
    ("Which film was released earlier, {one} or {two}?", True),
    ("Which film is older, {one} or {two}?", True),
    ("Which film was released more recently, {one} or {two}?", False),
    ("Which film came out later, {one} or {two}?", False),
)
FOUNDED = (
    ("Which was founded first, {one} or {two}?", True),
    ("Which was established earlier, {one} or {two}?", True),
    ("Which one is older, {one} or {two}?", True),
    ("Which was founded later, {one} or {two}?", False),
    ("Which was formed more recently, {one} or {two}?", False),
)
DIRECTOR_BORN = (
    ("Which film has the director who was born first, {one} or {two}?", True),
    ("Which film has the director who is older, {one} or {two}?", True),
    ("Which film whose director was born earlier, {one} or {two}?", True),
    ("Which film has the director born later, {one} or {two}?", False),
    ("Which film has the director who is younger, {one} or {two}?", False),
    ("Which film whose director is younger, {one} or {two}?", False),
)
DIRECTOR_DIED = (
    ("Which film has the director died first, {one} or {two}?", True),
    ("Which film has the director who died earlier, {one} or {two}?", True),
    ("Which film has the director who died later, {one} or {two}?", False),
)
SAME_NATION = (
    "Are {one} and {two} of the same nationality?",
    "Were {one} and {two} from the same country?",
    "Do {one} and {two} have the same nationality?",
    "Does {one} have the same nationality as {two}?",
    "Are both {one} and {two} from the same country?",
)
SAME_COUNTRY = (
    "Are {one} and {two} located in the same country?",
    "Are both {one} and {two} in the same country?",
    "Do {one} and {two} lie in the same country?",
)
DIRECTORS_SAME = (
    "Do both films {one} and {two} have the directors from the same country?",
    "Are the directors of {one} and {two} from the same country?",
    "Do the directors of films {one} and {two} share the same nationality?",
    "Are both directors of films {one} and {two} of the same nationality?",
)
