"""Which build this is: the compiled one, or Python's own."""

IS_COMPILED = not __file__.endswith((".py", ".pyc"))
"""Whether the codec and the path of a block are compiled; this module is, exactly when they are."""
