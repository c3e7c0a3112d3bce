"""Finds the files of an ingest and reads them: text and Markdown as they are, PDF and HTML through libraries."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import ExtraMissingError, InputError
from .ingest import Document

TEXT_SUFFIXES = frozenset({".txt", ".text", ".md", ".markdown", ".rst"})
HTML_SUFFIXES = frozenset({".html", ".htm"})
PDF_SUFFIX = ".pdf"


@dataclass(frozen=True)
class SourceFile:
    """A file to take in, under the id that its document gets."""

    document_id: str
    """Its path relative to the ingested folder, or its name."""
    path: Path


def find_files(paths: Sequence[Path]) -> list[SourceFile]:
    """List the files that ``paths`` name, in order: a file itself, of a folder all it holds that can be read.

    Hidden files, and files in a folder with other endings than those of text, Markdown, HTML and PDF, are left out.

    Raises:
        InputError: a path does not exist, a folder has nothing to read, or two files would get one id.
    """
    found: dict[str, SourceFile] = {}
    for path in paths:
        files = [SourceFile(path.name, path)] if path.is_file() else _files_in(path)
        for file in files:
            if file.document_id in found:
                raise InputError(
                    f"{found[file.document_id].path} and {file.path} would both be document {file.document_id!r}: "
                    "ingest the folder above them, or one at a time into two namespaces"
                )
            found[file.document_id] = file
    if not found:
        raise InputError("no file was named: give files or folders to ingest")
    return list(found.values())


def _files_in(folder: Path) -> list[SourceFile]:
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist: give a file or folder that does")
    readable = TEXT_SUFFIXES | HTML_SUFFIXES | {PDF_SUFFIX}
    files = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(place) / name
            if not name.startswith(".") and path.suffix.lower() in readable and path.is_file():
                files.append(SourceFile(path.relative_to(folder).as_posix(), path))
    if not files:
        raise InputError(f"folder {folder} holds no text, Markdown, HTML or PDF file")
    return files


def read_file(file: SourceFile) -> Document:
    """Read one file. Spans of its chunks count characters of the text that this returns.

    For text and Markdown that is the file's own text, decoded as UTF-8, line ends and all; for HTML
    and PDF what the library extracts.

    Raises:
        InputError: the file is empty, binary, not UTF-8 or damaged.
        ExtraMissingError: a library is needed for it.
    """
    suffix = file.path.suffix.lower()
    try:
        data = file.path.read_bytes()
    except OSError as error:
        raise InputError(f"{file.path} cannot be read: {error.strerror}") from error
    if suffix == PDF_SUFFIX:
        text = _pdf_text(file.path)
    else:
        text = _decoded(data, file.path)
        if suffix in HTML_SUFFIXES:
            text = _html_text(text)
    if not text.strip():
        raise InputError(f"{file.path} is empty, or holds no text: leave it out")
    return Document(file.document_id, text)


def _decoded(data: bytes, path: Path) -> str:
    if b"\0" in data[:8192]:
        raise InputError(f"{path} is a binary file: give text, Markdown, HTML or PDF")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8: byte {error.start} is 0x{data[error.start]:02x}. Convert it, for example with "
            f"'iconv -f WINDOWS-1252 -t UTF-8'"
        ) from error


def _html_text(markup: str) -> str:
    try:
        from bs4 import BeautifulSoup
    except ImportError as error:
        raise ExtraMissingError("reading HTML needs: pip install 'compressed-memory[files]'") from error
    page = BeautifulSoup(markup, "html.parser")
    for unseen in page(["script", "style", "template", "noscript"]):
        unseen.decompose()
    return page.get_text("\n", strip=True)


def _pdf_text(path: Path) -> str:
    try:
        from pypdf import PdfReader
        from pypdf.errors import PyPdfError
    except ImportError as error:
        raise ExtraMissingError("reading PDF needs: pip install 'compressed-memory[files]'") from error
    try:
        return "\n\n".join(page.extract_text() for page in PdfReader(path).pages)
    except (PyPdfError, ValueError) as error:
        raise InputError(f"{path} cannot be read as PDF: {error}") from error
