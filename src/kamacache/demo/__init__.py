"""The demonstration: `python -m kamacache.demo` runs a cluster of three processes and checks what it promises."""
