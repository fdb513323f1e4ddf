"""Writes: set, delete, clear."""
