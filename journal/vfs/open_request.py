"""A request of a guest to open a path."""

from typing import NamedTuple

from journal.events.descriptors import OpenFileDescriptor, OpenFileDescriptorWithFlags
from journal.wasi_abi import OpenFlags, Rights

# Operations on enum flags take longer than all other steps of an open.
_CREATE_OR_TRUNCATE = int(OpenFlags.CREATE | OpenFlags.TRUNCATE)
_READ, _WRITE = int(Rights.FD_READ), int(Rights.FD_WRITE)


_PATH, _FD_FLAGS = 7, 8  # Indexes of fields of an OpenRequest.

Opening = OpenFileDescriptor | OpenFileDescriptorWithFlags


class OpenRequest(NamedTuple):
    """Fields of an OpenFileDescriptor event, in wire order: the arguments of ``path_open``.

    ``fd`` is the descriptor that the call returns, ``lookup``, ``flags`` and ``fdflags`` are flags
    of WASI as numbers, ``rights`` and ``inheriting`` its rights. ``fd_flags`` are the flags of the
    descriptor itself, with which the event is an OpenFileDescriptorWithFlags.
    """

    fd: int
    dirfd: int
    lookup: int
    flags: int
    fdflags: int
    rights: int
    inheriting: int
    path: str
    fd_flags: int = 0

    @property
    def kind(self) -> type[Opening]:
        """Return the kind of the event."""
        return OpenFileDescriptorWithFlags if self.fd_flags else OpenFileDescriptor

    @property
    def event_values(self) -> tuple[int | str, ...]:
        """Return the values of the event in wire order."""
        if self.fd_flags:
            return *self[:_PATH], self.fd_flags, self.path
        return self[:_FD_FLAGS]

    @property
    def is_readable(self) -> bool:
        """Return whether the file is opened for reading: on request, or if not for writing."""
        return bool(self.rights & _READ) or not self.rights & _WRITE

    @property
    def is_writable(self) -> bool:
        """Return whether the file is opened for writing."""
        return bool(self.rights & _WRITE or self.flags & _CREATE_OR_TRUNCATE)
