"""WASI as the guest sees it: descriptors, files, streams, sockets and the terminal."""
