"""Parsing, analysis and rewriting of WebAssembly binaries."""
