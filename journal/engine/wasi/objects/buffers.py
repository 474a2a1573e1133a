"""Limit of the bytes that wait in all objects inside one guest together."""

from journal.engine.wasi.channel import ByteChannel
from journal.engine.wasi.descriptors import Descriptors
from journal.wasi_abi import Errno, WasiError

#: Largest size of the bytes in all objects of a guest: Linux's limit for the pipes of one user.
BUFFERS_SIZE_MAX = 64 << 20

#: Size for which a message counts beside its bytes.
MESSAGE_COST = 256


class BufferLimit:
    """Counter of the bytes that wait in the objects of a guest.

    It never counts too few: a read does not lower it, and it is counted anew when it comes to the
    limit. So each write is refused, or not, as if all objects were counted each time.
    """

    def __init__(self, descriptors: Descriptors) -> None:
        self._descriptors = descriptors
        self._size: int | None = None  # Unknown: the objects may have contents already.

    def reserve(self, size: int) -> None:
        """Count ``size`` more bytes; raise ``WasiError`` with ``NOBUFS`` if they are too many."""
        if self._size is None or self._size + size > BUFFERS_SIZE_MAX:
            self._size = self._count()
            if self._size + size > BUFFERS_SIZE_MAX:
                raise WasiError(Errno.NOBUFS)
        self._size += size

    def forget(self) -> None:
        """Count anew at the next write, because the objects have other contents now."""
        self._size = None

    def _count(self) -> int:
        channels = {
            id(each): each
            for each in self._descriptors.used.values()
            if isinstance(each, ByteChannel)
        }
        return sum(channel.buffered_size() for channel in channels.values())
