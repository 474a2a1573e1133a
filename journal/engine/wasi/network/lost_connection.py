"""Stand-ins of the host for connections that a resume could not continue."""

import socket as host

from journal.engine.wasi.filesystem.reopening import with_more_descriptors


def make_handle() -> host.socket:
    """Return a socket of the host that behaves as a connection that its peer has reset.

    The first receipt fails with ``ECONNRESET``; later ones return no bytes. A poll reports that it
    is readable, with an error and a hang-up. Closing one end of a pair with unread bytes has this
    effect on the other end, on Linux.
    """
    handle, peer = with_more_descriptors(host.socketpair)
    handle.setblocking(False)
    handle.send(b"\0")
    peer.close()
    return handle
