"""python -m kamacache: the same as the program `kamacache`."""

from kamacache.cli import main

main()
