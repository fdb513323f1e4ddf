"""Feed inputs to every parser of the project: see "Parsers and races" in docs/reliability.md."""
