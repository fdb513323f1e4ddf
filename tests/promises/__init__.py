"""The promises of the package, tested from outside, through its public names alone."""
