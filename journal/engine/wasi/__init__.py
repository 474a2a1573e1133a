"""WASI functions and the guest's descriptors, files, streams, sockets and terminal."""
