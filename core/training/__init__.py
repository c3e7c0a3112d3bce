"""Trains compressor, reasoner and gate: ``python -m core.training``."""
