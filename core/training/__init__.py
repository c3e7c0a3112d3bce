"""Trains compressor, reasoner and gate: ``python -m core.training``."""

import os

# Forward and backward passes with adapters need about a hundred kernels for each shape; see core/backbone.py.
for _variable in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(_variable, "4096")
