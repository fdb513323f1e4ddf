"""References in plain Python for the native engine."""
