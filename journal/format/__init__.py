"""Blocks and segments as bytes: encode, decode and validate them. Nothing here opens a file."""
