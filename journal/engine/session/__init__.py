"""Guest sessions: record, resume, replay and verify a run."""
