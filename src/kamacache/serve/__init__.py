"""The answers of a node to peers, clients and operators."""
