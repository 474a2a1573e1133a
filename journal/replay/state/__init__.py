"""Process state of a replay: memories, threads, descriptors and streams."""
