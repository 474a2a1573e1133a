"""Bindings to wasmtime's C API, and the parts of a running instance."""
