"""Measures what the documentation claims: python -m core.benchmarks NAME."""
