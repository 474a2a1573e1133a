"""A request of a guest to open a path."""

from typing import NamedTuple

from journal.wasi_abi import OpenFlags, Rights

# Operations on enum flags take longer than all other steps of an open.
_CREATE_OR_TRUNCATE = int(OpenFlags.CREATE | OpenFlags.TRUNCATE)
_READ, _WRITE = int(Rights.FD_READ), int(Rights.FD_WRITE)


class OpenRequest(NamedTuple):
    """Fields of an OpenFileDescriptor event, in wire order: the arguments of ``path_open``.

    ``fd`` is the descriptor that the call returns, ``lookup``, ``flags`` and ``fdflags`` are flags
    of WASI as numbers, ``rights`` and ``inheriting`` its rights.
    """

    fd: int
    dirfd: int
    lookup: int
    flags: int
    fdflags: int
    rights: int
    inheriting: int
    path: str

    @property
    def is_readable(self) -> bool:
        """Return whether the file is opened for reading: on request, or if not for writing."""
        return bool(self.rights & _READ) or not self.rights & _WRITE

    @property
    def is_writable(self) -> bool:
        """Return whether the file is opened for writing."""
        return bool(self.rights & _WRITE or self.flags & _CREATE_OR_TRUNCATE)
