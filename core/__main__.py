"""``python -m core``: see :mod:`core.cli`."""

from .cli import main

main()
