"""Execution of guests on wasmtime: record, replay and resume. The only package that imports
wasmtime.
"""
