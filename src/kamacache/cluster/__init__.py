"""What a member knows of the others, and which of them owns a key."""
