"""One journal on disk: scan, read, append, follow and recover its segment files."""
