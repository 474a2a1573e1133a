"""Second implementations for speed, each beside a plain twin with which a test compares it."""
