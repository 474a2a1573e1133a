"""Memory images: the memories of a snapshot in one file, to be mapped over a guest's memories.

An image is derived from a journal and stored in the user's cache. Its name is a keyed hash of the
snapshot and of all stored bytes from which the image was made, so that a journal finds only images
of its own bytes. The header is authenticated at each use. The pages are not read again: a mark,
which is authenticated too, states inode, size and times of the file that this user wrote. An image
whose file differs is made anew.
"""

import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from hmac import compare_digest
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

from journal.engine.program import user_cache
from journal.engine.program.user_cache import UserCache, is_private
from journal.errors import MalformedEvent, NotResumable
from journal.events import codec
from journal.events.memory import PAGE_SIZE, MemoryPages, PageKind
from journal.format.frame import Frame
from journal.fs import atomic_file
from journal.fs.user_key import MAC_SIZE, UserKey
from journal.pages import encoding

IMAGES_COUNT_MAX = 8
"""Images in the cache; the least recently used image is removed first."""

_NAME_SIZE = 16
"""Bytes of a keyed hash in a file name."""
_TEMPORARY_AGE_MAX_SECONDS = 3600
"""Age at which a temporary file is considered abandoned."""

_MAGIC = b"wasm-image\0\0\0\0\0\2"
_HEADER = struct.Struct("<16sI4x")
_MEMORY = struct.Struct("<I4xQQ16s")
_HEADER_SIZE = PAGE_SIZE
_MEMORIES_MAX = (_HEADER_SIZE - _HEADER.size - MAC_SIZE) // _MEMORY.size


class ImageMemory(NamedTuple):
    """One memory of an image: index, size in bytes, offset in the file, sum of page hashes."""

    memory_index: int
    size: int
    offset: int
    hash_sum: int


@dataclass(frozen=True, slots=True)
class MemoryImage:
    """An open image file; a context manager."""

    fd: int
    memories: tuple[ImageMemory, ...]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; existing mappings remain valid."""
        os.close(self.fd)


class ImageKey(NamedTuple):
    """Identity of the snapshot of an image.

    ``source`` is a keyed hash of the bytes of the journal from which the image is made.
    """

    journal_id: bytes
    seq: int
    digest: bytes
    source: bytes

    def pack(self) -> bytes:
        """Return the key as bytes; different keys have different bytes."""
        return b"%s %d %s %s" % (
            self.journal_id.hex().encode(),
            self.seq,
            self.digest.hex().encode(),
            self.source,
        )


IMAGES_NAME = "images"
"""Name of the directory of images."""


class ImageCache(NamedTuple):
    """Directory of images, next to the directory of compiled modules, and the user's key."""

    folder: Path
    user: UserKey

    @classmethod
    def open(cls, cache: Path | None) -> Self:
        """Return the images beside the modules in ``cache``, or in the default directory."""
        modules = UserCache.open(cache)
        return cls(modules.folder.parent / IMAGES_NAME, modules.key)

    def get_path(self, key: ImageKey) -> Path:
        """Return the path of an image."""
        name = self.user.compute_mac("image name", key.pack())[:_NAME_SIZE]
        return self.folder / f"{name.hex()}.image"


# -- writing -----------------------------------------------------------------------------------


class ImageWriter:
    """Writer of an image. Each memory has file space for the largest possible memory.

    > Why not a mapping? A write to a mapping kills the process if the disk is full.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._sizes: dict[int, int] = {}
        self._written_pages: dict[int, set[int]] = {}

    def apply(self, event: MemoryPages) -> None:
        """Apply an event's pages."""
        offset, written_pages = (
            self._grow(event.memory, event.size),
            self._written_pages[event.memory],
        )
        for number, kind, data in encoding.decode_resolved_pages(event):
            page_offset = offset + number * PAGE_SIZE
            if kind is PageKind.PATCHED:
                data = encoding.apply_patch(self.read_page(event.memory, number), data)
            elif kind is PageKind.ZERO and number not in written_pages:
                continue
            os.pwrite(self._fd, data or encoding.ZERO_PAGE, page_offset)
            written_pages.add(number)

    @property
    def sizes(self) -> dict[int, int]:
        """Size in bytes of each memory, by index."""
        return self._sizes

    def written_locations(self) -> Iterator[tuple[int, int]]:
        """Yield memory index and number of each page that was written."""
        for memory, numbers in self._written_pages.items():
            for number in numbers:
                yield memory, number

    def read_page(self, memory: int, number: int) -> bytes:
        """Return the bytes of a page."""
        if memory not in self._sizes:
            return encoding.ZERO_PAGE
        page_offset = self._offset(memory) + number * PAGE_SIZE
        return os.pread(self._fd, PAGE_SIZE, page_offset).ljust(PAGE_SIZE, b"\0")

    def _grow(self, memory: int, size: int) -> int:
        """Set the size of a memory, and return its offset."""
        old_size = self._sizes.get(memory, 0)
        if size < old_size or size > encoding.SIZE_MAX:
            raise NotResumable(
                f"memory {memory} of {old_size} bytes cannot be resized to {size} bytes: "
                f"memories only grow, to at most {encoding.SIZE_MAX} bytes"
            )
        self._sizes[memory] = size
        self._written_pages.setdefault(memory, set())
        if len(self._sizes) > _MEMORIES_MAX:
            raise NotResumable(f"the snapshot has more than {_MEMORIES_MAX} memories")
        return self._offset(memory)

    def _offset(self, memory: int) -> int:
        return _HEADER_SIZE + list(self._sizes).index(memory) * encoding.SIZE_MAX

    def finish(self, key: ImageKey, user: UserKey) -> tuple[ImageMemory, ...]:
        """Write the header, and return the memories of the image."""
        memories = []
        for index, size in self._sizes.items():
            total, offset = 0, self._offset(index)
            for number in self._written_pages[index]:
                page = os.pread(self._fd, PAGE_SIZE, offset + number * PAGE_SIZE)
                if page != encoding.ZERO_PAGE:
                    total = encoding.update_hash_sum(
                        total, encoding.hash_page(index, number, page), 0
                    )
            memories.append(ImageMemory(index, size, offset, total))
        os.ftruncate(
            self._fd,
            max((region.offset + region.size for region in memories), default=_HEADER_SIZE),
        )
        os.pwrite(self._fd, _encode_header(key, user, memories), 0)
        return tuple(memories)


def _encode_header(key: ImageKey, user: UserKey, memories: list[ImageMemory]) -> bytes:
    header = _HEADER.pack(_MAGIC, len(memories))
    for region in memories:
        header += _MEMORY.pack(
            region.memory_index, region.size, region.offset, region.hash_sum.to_bytes(16, "little")
        )
    header = header.ljust(_HEADER_SIZE - MAC_SIZE, b"\0")
    return header + user.compute_mac("image header", key.pack(), header)


Frames = Callable[[], Iterable[Frame]]


def make_image(
    frames: Frames, key: ImageKey, cache: ImageCache, *, is_cached: bool = True
) -> MemoryImage:
    """Make the image of a snapshot from the pages that lead to it, and store it in ``cache``.

    The image is only in memory if the file cannot be written, or without ``is_cached``. Raises
    NotResumable for invalid pages.
    """
    images: list[MemoryImage] = []

    def write(file: BinaryIO) -> None:
        images.append(_write_image(frames(), key, cache.user, file.fileno()))

    if is_cached:
        path = cache.get_path(key)
        with suppress(OSError):
            cache.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            atomic_file.replace(path, write)
            _mark_as_verified(path, images[0].fd, key, cache.user)
            _prune(cache.folder)
    if not images:
        with os.fdopen(os.memfd_create("image"), "w+b") as file:
            write(file)
    return images[0]


def _write_image(frames: Iterable[Frame], key: ImageKey, user: UserKey, fd: int) -> MemoryImage:
    writer = ImageWriter(fd)
    for frame in frames:
        try:
            event = codec.decode(frame.tag, frame.payload, frame.offset)
            assert isinstance(event, MemoryPages)
            writer.apply(event)
        except MalformedEvent as error:
            raise NotResumable(f"event {frame.seq} has invalid pages: {error}") from error
    memories = writer.finish(key, user)
    return MemoryImage(os.dup(fd), memories)


# -- lookup ------------------------------------------------------------------------------------


def find_image(key: ImageKey, cache: ImageCache) -> MemoryImage | None:
    """Return the authentic image of a snapshot, or None. An invalid image is removed."""
    path = cache.get_path(key)
    with suppress(OSError):
        if not (is_private(cache.folder) and is_private(path)):
            return None
        fd = os.open(path, user_cache.OPEN_FLAGS)
        try:
            memories = _read_header(fd, key, cache.user)
            if memories is not None and _is_verified(path, fd, key, cache.user):
                os.utime(path.with_suffix(".checked"))  # Record the last use for pruning.
                image, fd = MemoryImage(fd, memories), -1
                return image
        finally:
            if fd >= 0:
                os.close(fd)
        path.unlink()
    return None


def remove_image(key: ImageKey, cache: ImageCache) -> None:
    """Remove the image of a snapshot if it exists."""
    path = cache.get_path(key)
    for file in (path, path.with_suffix(".checked")):
        with suppress(OSError):
            file.unlink()


def _read_header(fd: int, key: ImageKey, user: UserKey) -> tuple[ImageMemory, ...] | None:
    data = os.pread(fd, _HEADER_SIZE, 0)
    header, mac = data[:-MAC_SIZE], data[-MAC_SIZE:]
    if not compare_digest(mac, user.compute_mac("image header", key.pack(), header)):
        return None
    _, count = _HEADER.unpack_from(header)
    memories, end = [], _HEADER_SIZE
    for position in range(count):
        index, size, offset, total = _MEMORY.unpack_from(
            header, _HEADER.size + position * _MEMORY.size
        )
        end = max(end, offset + size)
        memories.append(ImageMemory(index, size, offset, int.from_bytes(total, "little")))
    return tuple(memories) if os.fstat(fd).st_size == end else None


def _compute_mark(fd: int, key: ImageKey, user: UserKey) -> bytes:
    """Return the mark of an open image: nobody can set back the times without the clock."""
    status = os.fstat(fd)
    identity = b"%d %d %d %d %d" % (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
    return user.compute_mac("image mark", key.pack(), identity)


def _mark_as_verified(path: Path, fd: int, key: ImageKey, user: UserKey) -> None:
    with suppress(OSError):
        atomic_file.replace(path.with_suffix(".checked"), _compute_mark(fd, key, user))


def _is_verified(path: Path, fd: int, key: ImageKey, user: UserKey) -> bool:
    with suppress(OSError):
        mark = path.with_suffix(".checked").read_bytes()
        return compare_digest(mark, _compute_mark(fd, key, user))
    return False


def _prune(folder: Path) -> None:
    """Remove the least recently used images and the debris of crashes."""
    with suppress(OSError):
        for image in sorted(folder.glob("*.image"), key=_last_use)[:-IMAGES_COUNT_MAX]:
            image.unlink(missing_ok=True)
        for mark in folder.glob("*.checked"):
            if not mark.with_suffix(".image").exists():
                mark.unlink(missing_ok=True)
        for temporary in folder.glob(".*.tmp"):
            if temporary.stat().st_mtime < time.time() - _TEMPORARY_AGE_MAX_SECONDS:
                temporary.unlink(missing_ok=True)


def _last_use(image: Path) -> int:
    with suppress(OSError):
        return image.with_suffix(".checked").stat().st_mtime_ns
    with suppress(OSError):  # A crash may have come before the mark was written.
        return image.stat().st_mtime_ns
    return 0
