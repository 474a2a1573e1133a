"""Query language of ``--where``: parser, compiler, and evaluation block by block."""
