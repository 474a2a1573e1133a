"""Memory mappings of this process: reserved ranges, and private mappings over existing ranges."""

import ctypes
import errno
import mmap
import os

from journal.engine.memory.dirty_pages import PAGE_SIZE

_libc = ctypes.CDLL(None, use_errno=True)
_mmap = _libc.mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int64,
]
_munmap = _libc.munmap
_munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

_memcmp = _libc.memcmp
_memcmp.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
_ZEROS = bytes(1 << 16)

_FAILED = ctypes.c_void_p(-1).value
_FIXED = 0x10
_NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)
_READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
_SPARSE_SIZE = 1 << 20
_ZEROS = bytes(_SPARSE_SIZE)


def map_over(address: int, size: int, fd: int, offset: int) -> None:
    """Replace ``size`` bytes at ``address`` with a private mapping of a file.

    The range loses its content, so nothing else may use the range.
    """
    if size:
        _map(address, size, mmap.MAP_PRIVATE | _FIXED, fd, offset)


def copy_over(address: int, size: int, fd: int, offset: int) -> None:
    """Set ``size`` bytes at ``address`` to those of a file, in the mapping that is there.

    Pages that are zero already, and in a hole of the file, are not written.
    """
    view = memoryview((ctypes.c_ubyte * size).from_address(address)).cast("B")
    position = 0
    while position < size:
        start = min(size, _find_data(fd, offset + position, offset + size) - offset)
        _clear(address + position, start - position)
        position = start
        stop = min(size, os.lseek(fd, offset + start, os.SEEK_HOLE) - offset) if start < size else 0
        while position < stop:
            count = os.preadv(fd, [view[position:stop]], offset + position)
            if not count:
                raise OSError(errno.EIO, "the memory image is cut short")
            position += count


def _find_data(fd: int, offset: int, end: int) -> int:
    """Return where the next bytes of a file are that are not in a hole, or ``end``."""
    try:
        return os.lseek(fd, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return end


def _clear(address: int, size: int) -> None:
    """Set a range to zeros, and do not write pages that are."""
    for start in range(address, address + size, len(_ZEROS)):
        count = min(len(_ZEROS), address + size - start)
        if _memcmp(start, _ZEROS, count):
            ctypes.memset(start, 0, count)


def reserve(size: int, protection: int) -> int:
    """Reserve addresses that take no memory until they are written, and return the first one.

    Raises ``OSError`` if the process cannot have so many.
    """
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE
    return _map(0, size, flags, -1, 0, protection)


def unmap(address: int, size: int) -> None:
    """Remove the mappings of a range."""
    _munmap(address, size)


def _map(
    address: int, size: int, flags: int, fd: int, offset: int, protection: int = _READ_WRITE
) -> int:
    assert not (address | size | offset) % PAGE_SIZE, "mappings consist of whole pages"
    result: int = _mmap(address, size, protection, flags, fd, offset)
    if result == _FAILED:
        error = ctypes.get_errno()
        raise OSError(error, f"mmap: {os.strerror(error)}")
    return result


def write_sparse(fd: int, offset: int, data: memoryview) -> None:
    """Write bytes at an offset of an empty file, and leave holes where they are zeros."""
    for start in range(0, len(data), _SPARSE_SIZE):
        part = data[start : start + _SPARSE_SIZE]
        if part != _ZEROS[: len(part)]:
            written = 0
            while written < len(part):
                written += os.pwrite(fd, part[written:], offset + start + written)


class MappedImage:
    """A part of a file, mapped to be read only, and to be mapped over memories.

    ``fd`` and ``offset`` are those of the file; the caller keeps it open.
    """

    def __init__(self, size: int, fd: int, offset: int) -> None:
        self.size, self.fd, self.offset = size, fd, offset
        self.address = _map(0, size, mmap.MAP_PRIVATE, fd, offset, mmap.PROT_READ) if size else 0
        array = (ctypes.c_ubyte * size).from_address(self.address) if size else bytearray()
        self.view = memoryview(array).cast("B").toreadonly()

    def close(self) -> None:
        """Unmap the image. Memories over which it was mapped remain valid."""
        if self.size:
            self.view.release()
            unmap(self.address, self.size)
            self.size = 0


class Mirror:
    """Copy of a memory at its last snapshot, initially zeros.

    Only pages that are not zero take memory.
    """

    def __init__(self, size_max: int) -> None:
        self.address = reserve(size_max, _READ_WRITE)
        self._size = size_max
        array = (ctypes.c_ubyte * size_max).from_address(self.address)
        self._view = memoryview(array).cast("B")

    def map_file(self, size: int, fd: int, offset: int) -> None:
        """Replace the first ``size`` bytes with a private mapping of a file."""
        map_over(self.address, size, fd, offset)

    def read(self, number: int) -> bytes:
        """Return the bytes of a page."""
        return self._view[number * PAGE_SIZE : (number + 1) * PAGE_SIZE].tobytes()

    def write(self, number: int, page: bytes) -> None:
        """Set the bytes of a page."""
        self._view[number * PAGE_SIZE : (number + 1) * PAGE_SIZE] = page

    def close(self) -> None:
        """Unmap the range."""
        if self._size:
            self._view.release()
            unmap(self.address, self._size)
            self._size = 0
