"""Backends and helpers for frameworks, each a module of its own that imports its framework."""
