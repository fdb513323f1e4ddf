"""Measure what things cost. Each module runs alone: python -m bench.local_hit."""
