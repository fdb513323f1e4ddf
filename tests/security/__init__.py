"""Passwords and certificates on every protocol, with real connections."""
