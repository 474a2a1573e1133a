"""Sessions: a program feeds a guest and waits for its reply, in threads or in an event loop."""
