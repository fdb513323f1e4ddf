"""What happens when a value is not in memory. Read the files in this order: miss, peek, remote, local, call."""
