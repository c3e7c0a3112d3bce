"""The two agents against their papers: what they are shown, in which order, and what they keep."""

from collections.abc import Callable

import pytest

from core.backbone import Backbone
from core.chunking import token_ends
from core.evaluation.systems import memagent, rememr1
from core.evaluation.systems.boxed import boxed
from core.evaluation.systems.memagent import EMPTY_MEMORY, Budgets, MemAgent, MemAgentReading
from core.evaluation.systems.rememr1 import NOTHING_RECALLED, ReMemR1, ReMemR1Reading, State, best_match
from core.evaluation.systems.token_windows import windows
from core.generation import Generator, Prompt, Reply
from core.ingest import Document
from tests import tiny_models

DOCUMENTS = [
    Document(str(n), f"Village {n}\nIt has {n} houses and a long road that leads to the sea.") for n in range(9)
]


class Scripted(Generator):
    """Says what it is told to, and remembers what it was shown."""

    def __init__(self, backbone: Backbone, replies: list[str]) -> None:
        super().__init__(backbone)
        self.replies_left, self.seen = list(replies), list[Prompt]()

    def reply(self, prompt: Prompt, on_text: Callable[[str], None] | None = None) -> Reply:
        self.seen.append(prompt)
        return Reply(self.replies_left.pop(0), (1, 2), True, 10, 0)


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return tiny_models.backbone()


def test_windows_are_so_many_tokens_each_and_together_the_text(tiny: Backbone) -> None:
    text = DOCUMENTS[0].text
    ends = token_ends(text, tiny.tokenizer)
    pieces = windows(text, ends, 7)
    assert "".join(pieces) == text
    assert [len(tiny.encode(piece)) for piece in pieces[:-1]] == [7] * ((len(ends) - 1) // 7)
    assert windows(text, ends, len(ends)) == [text]
    assert windows(text, ends, len(ends) + 5) == [text]


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (r"So \boxed{Denver Broncos}.", "Denver Broncos"),
        (r"\boxed{wrong} no, \boxed{a {b} c} end", "a {b} c"),
        (r"\boxed{cut off", "cut off"),
        ("Denver Broncos", "Denver Broncos"),
        (r"\boxed{}", ""),
    ],
)
def test_the_last_box_is_the_answer(reply: str, answer: str) -> None:
    assert boxed(reply) == answer


def test_memagent_reads_every_window_and_its_whole_reply_is_the_memory(tiny: Backbone) -> None:
    generator = Scripted(tiny, ["Memory one", "Memory two", "Memory three", r"\boxed{nine}"])
    total = len(token_ends("\n\n".join(d.text for d in DOCUMENTS), tiny.tokenizer))
    reading = MemAgentReading(generator, Budgets(window=(total + 60) // 2, memory=32, answer=16), DOCUMENTS)
    outcome = reading.ask("How many houses?")
    *updates, last = generator.seen
    shown = "".join(p.user.split("<section>\n")[1].split("\n</section>")[0] for p in updates)
    assert all(document.text in shown for document in DOCUMENTS)
    assert [p.user.split("<memory>\n")[1].split("\n</memory>")[0] for p in generator.seen] == [
        EMPTY_MEMORY,
        *[f"Memory {n}" for n in ("one", "two", "three")][: len(updates)],
    ]
    assert [p.max_tokens for p in generator.seen] == [*[32] * len(updates), 16]
    assert "<section>" not in last.user
    assert outcome.cost.model_calls == len(updates) + 1  # ceil(tokens / window) + 1
    assert outcome.read is None
    if len(updates) == 3:
        assert outcome.prediction == "nine"


def test_the_published_budgets_are_the_default_and_a_short_context_shortens_only_the_window(tiny: Backbone) -> None:
    assert Budgets() == Budgets(window=5000, memory=1024, answer=1024)
    long = [Document("1", " ".join(["word"] * 6000))]
    reading = MemAgentReading(Scripted(tiny, []), Budgets(), long)
    first = reading._sections("What?")[0]
    prompt = memagent.memory_prompt("What?", " word" * 1024, first, Budgets())
    taken = len(tiny.encode_chat(prompt.system, prompt.user, prompt.prefill)) + prompt.max_tokens
    assert tiny.context_tokens - 64 < taken <= tiny.context_tokens
    recalled = ReMemR1Reading(Scripted(tiny, []), Budgets(), long)._sections("What?")[0]
    state = State(" word" * 1024, (), " word" * 1024)
    prompt = rememr1.memory_prompt("What?", state, recalled, Budgets())
    taken = len(tiny.encode_chat(prompt.system, prompt.user, prompt.prefill)) + prompt.max_tokens
    assert tiny.context_tokens - 64 < taken <= tiny.context_tokens


def test_a_state_follows_from_a_reply() -> None:
    start = State()
    one = start.after("<update>Ann lives in\nOslo.</update>")
    assert one == State("Ann lives in\nOslo.", (), None)  # "nothing yet" is no memory to look up
    two = one.after("<update>Bob is a baker.</update><recall>where does Ann live</recall>")
    assert two == State("Bob is a baker.", ("Ann lives in\nOslo.",), "Ann lives in\nOslo.")
    assert two.after("I have no idea") == State("Bob is a baker.", two.past, None)
    assert two.after("<recall>baker</recall>").recalled is None  # the present memory is not searched
    assert two.after("<update>cut off").memory == "cut off"
    assert two.after("<update> </update>").memory == "Bob is a baker."
    assert two.after("<recall>Ann</recall><update>Later.</update>").memory == "Later."


def test_the_past_memory_with_most_of_the_query_s_words_is_recalled_the_latest_of_equals() -> None:
    past = ("Ann in Oslo", "Bob in Rome", "Ann in Rome")
    assert best_match("Ann", past) == "Ann in Rome"
    assert best_match("Ann Oslo", past) == "Ann in Oslo"
    assert best_match("An", past) is None  # words, not parts of them
    assert best_match("", past) is None
    assert best_match("Ann", ()) is None


def test_rememr1_shows_what_was_recalled_one_step_later_and_at_the_end(tiny: Backbone) -> None:
    replies = [
        "<update>Ann lives in Oslo.</update>",
        "<update>Bob is a baker.</update><recall>Ann</recall>",
        "<update>Cleo sings.</update><recall>baker</recall>",
        r"\boxed{Oslo}",
    ]
    generator = Scripted(tiny, replies)
    reading = ReMemR1Reading(generator, Budgets(window=40, memory=32, answer=16), DOCUMENTS[:3])
    reading._sections = lambda question: ["one", "two", "three"]
    assert reading.ask("Where does Ann live?").prediction == "Oslo"
    recalled = [p.user.split("<recalled_memory>\n")[1].split("\n</recalled_memory>")[0] for p in generator.seen]
    assert recalled == [NOTHING_RECALLED, NOTHING_RECALLED, "Ann lives in Oslo.", "Bob is a baker."]
    assert ["<section>\none\n" in generator.seen[0].user, "<section>" in generator.seen[3].user] == [True, False]
    assert "Cleo sings." in generator.seen[3].user


@pytest.mark.parametrize("agent", [MemAgent, ReMemR1])
def test_the_real_model_answers_through_an_agent(default_backbone: Backbone, agent: type[MemAgent | ReMemR1]) -> None:
    corpus = agent(default_backbone, Budgets(window=80, memory=8, answer=8)).take_in(DOCUMENTS[:4])
    outcome = corpus.ask("How many houses has Village 3?")
    assert outcome.cost.model_calls == 3
    assert 3 <= outcome.cost.tokens_written <= 24
    assert {"update", "answer"} <= outcome.cost.seconds.keys()
    assert outcome.prediction
    assert "\0" not in outcome.prediction
