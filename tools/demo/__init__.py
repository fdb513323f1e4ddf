"""Run a cluster of three processes and check what it promises: `python -m tools.demo`."""
