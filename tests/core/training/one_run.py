"""Runs two steps in a folder, in as many processes as it is started in: python -m tests.core.training.one_run DIR.

In fp32 on every machine: what is compared is the arithmetic, not how bf16 rounds when a sum is split otherwise.
"""

import sys
from pathlib import Path

from .small_runs import trainer

CHANGES = {"steps": 2, "batch": 4, "forms": ("raw", "compressed"), "ratios": (2, 8), "seed": 5}

if __name__ == "__main__":
    trainer(Path(sys.argv[1]), precision="no", **CHANGES).run()
