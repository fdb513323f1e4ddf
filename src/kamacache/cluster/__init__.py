"""The other members as a node knows them, and the owner of each key."""
