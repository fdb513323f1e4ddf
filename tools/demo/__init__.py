"""The demonstration: `python -m tools.demo` runs a cluster of three processes and checks what it promises."""
