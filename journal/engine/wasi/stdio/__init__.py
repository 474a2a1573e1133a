"""Standard streams of a guest: sources of stdin, and output delivered exactly once."""
