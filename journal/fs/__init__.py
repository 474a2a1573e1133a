"""Files of the operating system: atomic replacement, bounded reads, search and change events."""
