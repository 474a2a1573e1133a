"""Memory images: the memories of a snapshot in one file, to be mapped over a guest's memories.

An image is derived from a journal and stored in the user's cache. The header is verified at each
use. The pages are verified unless inode, size and times show that the file has not changed since
the last verification. The file name contains the snapshot's digest, which cannot be known without
the state.
"""

import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

import xxhash

from journal.engine.program.module import get_default_cache, is_private
from journal.errors import MalformedEvent, NotResumable
from journal.events import codec
from journal.events.memory import PAGE_SIZE, MemoryPages, PageKind
from journal.format.frame import Frame
from journal.fs import atomic_file
from journal.pages import encoding

IMAGES_COUNT_MAX = 8
"""Images in the cache; the least recently used image is removed first."""

_TEMPORARY_AGE_MAX_SECONDS = 3600
"""Age at which a temporary file is considered abandoned."""

_MAGIC = b"wasm-image\0\0\0\0\0\1"
_HEADER = struct.Struct("<16s16sQI4x")
_MEMORY = struct.Struct("<I4xQQ16s")
_HASH = struct.Struct("<Q")
_HEADER_SIZE = PAGE_SIZE
# With O_NONBLOCK, opening a FIFO does not wait.
_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_MEMORIES_MAX = (_HEADER_SIZE - _HEADER.size - _HASH.size) // _MEMORY.size


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
    """Identity of the snapshot of an image."""

    journal_id: bytes
    seq: int
    digest: bytes

    @property
    def name(self) -> str:
        """File name of the image."""
        return f"{self.journal_id.hex()}-{self.seq}-{self.digest.hex()}.image"


def get_image_folder(cache: Path | None) -> Path:
    """Return the directory for images, next to the directory of compiled modules."""
    return (cache or get_default_cache()).parent / "images"


# -- writing -----------------------------------------------------------------------------------


class _ImageWriter:
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
                old_page = os.pread(self._fd, PAGE_SIZE, page_offset).ljust(PAGE_SIZE, b"\0")
                data = encoding.apply_patch(old_page, data)
            elif kind is PageKind.ZERO and number not in written_pages:
                continue
            os.pwrite(self._fd, data or encoding.ZERO_PAGE, page_offset)
            written_pages.add(number)

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

    def finish(self, key: ImageKey) -> tuple[ImageMemory, ...]:
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
        os.pwrite(self._fd, _encode_header(key, memories), 0)
        return tuple(memories)


def _encode_header(key: ImageKey, memories: list[ImageMemory]) -> bytes:
    header = _HEADER.pack(_MAGIC, key.journal_id, key.seq, len(memories))
    for region in memories:
        header += _MEMORY.pack(
            region.memory_index, region.size, region.offset, region.hash_sum.to_bytes(16, "little")
        )
    header = header.ljust(_HEADER_SIZE - _HASH.size, b"\0")
    return header + _HASH.pack(xxhash.xxh3_64_intdigest(header))


Frames = Callable[[], Iterable[Frame]]


def make_image(frames: Frames, key: ImageKey, folder: Path) -> MemoryImage:
    """Make the image of a snapshot from the pages that lead to it, and store it in ``folder``.

    If the file cannot be written, the image is only in memory. Raises NotResumable for invalid
    pages.
    """
    images: list[MemoryImage] = []

    def write(file: BinaryIO) -> None:
        images.append(_write_image(frames(), key, file.fileno()))

    path = folder / key.name
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        atomic_file.replace(path, write)
        _mark_as_verified(path, images[0].fd)
        _prune(folder)
    if not images:
        with os.fdopen(os.memfd_create(key.name), "w+b") as file:
            write(file)
    return images[0]


def _write_image(frames: Iterable[Frame], key: ImageKey, fd: int) -> MemoryImage:
    writer = _ImageWriter(fd)
    for frame in frames:
        try:
            event = codec.decode(frame.tag, frame.payload, frame.offset)
            assert isinstance(event, MemoryPages)
            writer.apply(event)
        except MalformedEvent as error:
            raise NotResumable(f"event {frame.seq} has invalid pages: {error}") from error
    memories = writer.finish(key)
    return MemoryImage(os.dup(fd), memories)


# -- lookup ------------------------------------------------------------------------------------


def find_image(key: ImageKey, folder: Path) -> MemoryImage | None:
    """Return the verified image of a snapshot, or None. An invalid image is removed."""
    path = folder / key.name
    with suppress(OSError):
        if not (is_private(folder) and is_private(path)):
            return None
        fd = os.open(path, _OPEN_FLAGS)
        try:
            memories = _read_header(fd, key)
            if memories is not None and (
                _is_verified(path, fd) or _verify_pages(path, fd, memories)
            ):
                os.utime(path.with_suffix(".checked"))  # Record the last use for pruning.
                image, fd = MemoryImage(fd, memories), -1
                return image
        finally:
            if fd >= 0:
                os.close(fd)
        path.unlink()
    return None


def remove_image(key: ImageKey, folder: Path) -> None:
    """Remove the image of a snapshot if it exists."""
    path = folder / key.name
    for file in (path, path.with_suffix(".checked")):
        with suppress(OSError):
            file.unlink()


def _read_header(fd: int, key: ImageKey) -> tuple[ImageMemory, ...] | None:
    header = os.pread(fd, _HEADER_SIZE, 0)
    if len(header) < _HEADER_SIZE:
        return None
    (stored_hash,) = _HASH.unpack_from(header, _HEADER_SIZE - _HASH.size)
    if stored_hash != xxhash.xxh3_64_intdigest(header[: -_HASH.size]):
        return None
    magic, journal_id, seq, count = _HEADER.unpack_from(header)
    if (magic, journal_id, seq) != (_MAGIC, key.journal_id, key.seq) or count > _MEMORIES_MAX:
        return None
    memories, end = [], _HEADER_SIZE
    for position in range(count):
        index, size, offset, total = _MEMORY.unpack_from(
            header, _HEADER.size + position * _MEMORY.size
        )
        if offset != _HEADER_SIZE + position * encoding.SIZE_MAX or not _is_valid_size(size):
            return None
        end = max(end, offset + size)
        memories.append(ImageMemory(index, size, offset, int.from_bytes(total, "little")))
    return tuple(memories) if os.fstat(fd).st_size == end else None


def _is_valid_size(size: int) -> bool:
    return size <= encoding.SIZE_MAX and not size % PAGE_SIZE


def _verify_pages(path: Path, fd: int, memories: tuple[ImageMemory, ...]) -> bool:
    """Return whether the pages of each memory match the recorded hash sum."""
    for region in memories:
        total = 0
        for start, stop in _iter_data_ranges(fd, region.offset, region.offset + region.size):
            for offset in range(start - start % PAGE_SIZE, stop, PAGE_SIZE):
                page = os.pread(fd, PAGE_SIZE, offset)
                if page != encoding.ZERO_PAGE:
                    number = (offset - region.offset) // PAGE_SIZE
                    total = encoding.update_hash_sum(
                        total, encoding.hash_page(region.memory_index, number, page), 0
                    )
        if total != region.hash_sum:
            return False
    _mark_as_verified(path, fd)
    return True


def _iter_data_ranges(fd: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges of a file that are not holes, in order."""
    offset = start
    while offset < stop:
        try:
            offset = os.lseek(fd, offset, os.SEEK_DATA)
        except OSError:  # Only holes remain.
            return
        end = min(os.lseek(fd, offset, os.SEEK_HOLE), stop)
        if offset < stop:
            yield offset, end
        offset = end


def _file_identity(fd: int) -> bytes:
    status = os.fstat(fd)
    return b"%d %d %d %d\n" % (
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def _mark_as_verified(path: Path, fd: int) -> None:
    with suppress(OSError):
        atomic_file.replace(path.with_suffix(".checked"), _file_identity(fd))


def _is_verified(path: Path, fd: int) -> bool:
    mark = path.with_suffix(".checked")
    with suppress(OSError):
        return is_private(mark) and mark.read_bytes() == _file_identity(fd)
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
