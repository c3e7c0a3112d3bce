"""Writes the Python snippets of a Markdown file as scripts: ``extract_snippets.py FILE FOLDER``."""

import re
import sys
from pathlib import Path


def main() -> None:
    source, folder = map(Path, sys.argv[1:])
    snippets = re.findall(r"^```python\n(.*?)^```", source.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    if not snippets:
        sys.exit(f"{source} has no Python snippets")
    for number, snippet in enumerate(snippets, 1):
        (folder / f"snippet_{number}.py").write_text(snippet, "utf-8")


if __name__ == "__main__":
    main()
