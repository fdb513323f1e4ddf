"""Who is let in, tried with real connections."""
