"""What the package promises, tested from outside: through its public names alone."""
