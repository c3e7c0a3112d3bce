"""Measures answers: one set of questions, several systems, one table. ``python -m core.evaluation``."""
