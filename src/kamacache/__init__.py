"""A distributed read-through cache for Python."""
