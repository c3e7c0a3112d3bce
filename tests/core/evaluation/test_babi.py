import io
import tarfile
from pathlib import Path

import pytest

from core.errors import InputError
from core.evaluation.babi import read_babi

STORY = """1 Mary got the milk there.
2 John moved to the bedroom.
3 Where is the milk? \thallway\t1
4 Mary went to the hall.
5 Where is Mary?\thall\t4 1
1 Sandra slept.
2 Is Sandra awake? \tno\t1
"""


def test_a_question_has_the_story_up_to_it_in_order(tmp_path: Path) -> None:
    (tmp_path / "qa2_two_test.txt").write_text(STORY)
    first, second, third = read_babi(tmp_path / "qa2_two_test.txt")
    assert (first.id, first.question, first.answers) == ("qa2-1", "Where is the milk?", ("hallway",))
    assert [(p.text, p.support) for p in first.paragraphs] == [
        ("Mary got the milk there.", (0,)),
        ("John moved to the bedroom.", ()),
    ]
    assert [p.text for p in second.paragraphs][-1] == "Mary went to the hall."  # a question is no line of the story
    assert [bool(p.support) for p in second.paragraphs] == [True, False, True]
    assert [p.text for p in third.paragraphs] == ["Sandra slept."]
    assert first.ordered
    assert first.type == "qa2"


def test_an_archive_gives_every_file_in_order(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "babi.tar.gz", "w:gz") as archive:
        for name in ("qa2_b_test.txt", "qa1_a_test.txt"):
            info = tarfile.TarInfo(name)
            info.size = len(STORY)
            archive.addfile(info, io.BytesIO(STORY.encode()))
    assert [q.id for q in read_babi(tmp_path / "babi.tar.gz")] == [
        *(f"qa1-{n}" for n in (1, 2, 3)),
        *(f"qa2-{n}" for n in (1, 2, 3)),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [("Mary slept.\n", "line 1: 'Mary slept.' is no line"), ("1 A.\n2 Q?\tno\t7\n", "line 2: supporting line 7")],
)
def test_what_is_not_in_the_form_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "qa1.txt").write_text(text)
    with pytest.raises(InputError, match=said):
        list(read_babi(tmp_path / "qa1.txt"))
    with pytest.raises(InputError, match="is no file"):
        list(read_babi(tmp_path / "missing.txt"))
