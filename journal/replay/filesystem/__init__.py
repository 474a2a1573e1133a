"""Directory operations for a replay, over an in-memory or a host directory backend."""
