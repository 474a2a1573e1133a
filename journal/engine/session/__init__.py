"""One run of a guest: record, resume, replay and verify it."""
