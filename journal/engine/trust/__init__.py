"""Access of a resumed guest to the host: what a journal asks for, and what the user has granted.

Nothing in a journal gives access to anything.
"""
