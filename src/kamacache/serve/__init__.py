"""What a node answers to peers, clients and operators."""
