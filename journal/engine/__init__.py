"""Runs guests on wasmtime, records them, and resumes them. The only importer of wasmtime."""
