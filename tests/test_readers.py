"""Which files are found, under which ids, and what is read from them."""

from pathlib import Path

import pytest

from core.errors import InputError
from core.readers import SourceFile, find_files, read_file


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"text of {name}")


def test_a_folder_gives_its_readable_files_by_relative_path_in_order(tmp_path: Path) -> None:
    write(tmp_path, "b.md", "a/z.txt", "a/.hidden.txt", ".git/c.txt", "photo.jpg", "A.TXT")
    assert [file.document_id for file in find_files([tmp_path])] == ["A.TXT", "b.md", "a/z.txt"]


def test_a_file_is_taken_whatever_its_ending_by_its_name(tmp_path: Path) -> None:
    write(tmp_path, "deep/notes.log")
    assert find_files([tmp_path / "deep/notes.log"]) == [SourceFile("notes.log", tmp_path / "deep/notes.log")]


def test_two_files_for_one_id_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "a/x.txt", "b/x.txt")
    with pytest.raises(InputError, match=r"would both be document 'x.txt'"):
        find_files([tmp_path / "a", tmp_path / "b"])


def test_text_is_read_to_the_letter(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes("\ufeffone\r\ntwo\rthree\n".encode())
    assert read_file(SourceFile("x.txt", tmp_path / "x.txt")).text == "\ufeffone\r\ntwo\rthree\n"


def test_html_gives_its_visible_text(tmp_path: Path) -> None:
    page = "<html><head><style>p {}</style><script>alert(1)</script></head><body><h1>Title</h1><p>One &amp; two</p>"
    (tmp_path / "x.html").write_text(page)
    assert read_file(SourceFile("x.html", tmp_path / "x.html")).text == "Title\nOne & two"


def test_a_broken_pdf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pdf").write_bytes(b"%PDF-1.4 and then nothing")
    with pytest.raises(InputError, match=r"x\.pdf cannot be read as PDF"):
        read_file(SourceFile("x.pdf", tmp_path / "x.pdf"))


def test_a_pdf_gives_the_text_of_its_pages(tmp_path: Path) -> None:
    stream = b"BT /F1 12 Tf 72 700 Td (Ruth Calder kept bees.) Tj ET"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
        b"/Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>",
        b"<< /Length %d >> stream\n%s\nendstream" % (len(stream), stream),
    ]
    body, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    body += b"xref\n0 5\n0000000000 65535 f \n%strailer << /Size 5 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (
        table,
        len(body),
    )
    (tmp_path / "x.pdf").write_bytes(body)
    assert read_file(SourceFile("x.pdf", tmp_path / "x.pdf")).text.strip() == "Ruth Calder kept bees."
