"""Clones of a warm guest in one process: many short sessions, each from the same snapshot."""
