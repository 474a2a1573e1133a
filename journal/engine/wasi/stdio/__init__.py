"""Standard streams: sources of input, and exactly-once delivery of output."""
