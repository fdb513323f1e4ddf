"""The network between nodes: addresses, messages, the lane of the engine."""
