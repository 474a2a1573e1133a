"""Birth times of files, which Python's ``os.stat`` does not return on Linux."""

import ctypes
import struct

_EMPTY_PATH = 0x1000
_BIRTH_TIME = 0x800
_STATX_SIZE = 256
_BIRTH_TIME_OFFSET = 80
_MASK = struct.Struct("=I")
_TIMESTAMP = struct.Struct("=qI")


def read_birth_time(fd: int) -> int | None:
    """Return the time at which an open file was created, in nanoseconds since the epoch.

    Returns None if the file system or the C library does not tell.
    """
    try:
        statx = ctypes.CDLL(None).statx
    except AttributeError:
        return None
    buffer = ctypes.create_string_buffer(_STATX_SIZE)
    if statx(fd, b"", _EMPTY_PATH, ctypes.c_uint(_BIRTH_TIME), buffer):
        return None
    (mask,) = _MASK.unpack_from(buffer)
    if not mask & _BIRTH_TIME:
        return None
    seconds, nanoseconds = _TIMESTAMP.unpack_from(buffer, _BIRTH_TIME_OFFSET)
    return int(seconds * 1_000_000_000 + nanoseconds)
