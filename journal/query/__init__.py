"""The ``--where`` query language: parser, compiler and evaluation over blocks."""
