"""Bindings to wasmtime's C API, and the state of a running instance."""
