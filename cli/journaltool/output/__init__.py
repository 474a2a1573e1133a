"""Rendering of events, tables, charts and progress for a terminal."""
