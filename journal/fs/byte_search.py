"""Fast search for a byte string, with the C library's ``memmem``."""

from collections.abc import Callable
from functools import cache

_SIZE_SMALL = 1 << 12


def contains(data: bytes, needle: bytes) -> bool:
    """Return whether ``data`` contains ``needle``.

    > Why not ``in``? On random bytes, CPython's search reaches 2.6 GB/s (4.2 from the end), the C
    library's 8.5 GB/s; for pages the difference is a third of the cost of an append. Most data that
    is not random lacks one of the bytes of the needle, and that test runs at 100 GB/s.
    """
    if len(data) <= _SIZE_SMALL:
        return data.rfind(needle) >= 0
    return all(map(data.__contains__, needle)) and _memmem_search()(data, needle)


@cache
def _memmem_search() -> Callable[[bytes, bytes], bool]:
    try:
        from ctypes import PyDLL, c_char_p, c_size_t, c_void_p

        memmem = PyDLL(None).memmem
    except (ImportError, OSError, AttributeError):  # The C library has no memmem.
        return lambda data, needle: data.rfind(needle) >= 0
    memmem.argtypes = (c_char_p, c_size_t, c_char_p, c_size_t)
    memmem.restype = c_void_p
    return lambda data, needle: memmem(data, len(data), needle, len(needle)) is not None
