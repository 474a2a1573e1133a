"""Effects of the event kinds on a replay host, one module per family of events."""
