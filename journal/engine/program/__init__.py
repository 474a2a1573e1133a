"""The guest module: load, instrument, compile and cache it."""
