"""Images: the memories of a snapshot as one file, to be mapped over those of a guest.

An image is derived from a journal, and kept in the user's cache for the next time. It is looked at
before it is used: its head always; its pages whenever the file is not the very one that was looked
at before, by inode, size and times. Its name has the snapshot's digest, which nobody knows who does
not know the state.
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

from journal.engine.program.module import default_cache, is_private
from journal.errors import MalformedEvent, NotResumable
from journal.events import codec
from journal.events.memory import PAGE_SIZE, MemoryPages, PageKind
from journal.format.frame import Frame
from journal.fs import atomic_file as durable
from journal.pages import encoding as paging

IMAGES_COUNT_MAX = 8
"""Images that are kept; the one that was used longest ago goes first."""

_TEMPORARY_AGE_MAX_SECONDS = 3600
"""What was begun before that, nobody makes any more."""

_MAGIC = b"wasm-image\0\0\0\0\0\1"
_HEAD = struct.Struct("<16s16sQI4x")
_MEMORY = struct.Struct("<I4xQQ16s")
_HASH = struct.Struct("<Q")
_HEAD_SIZE = PAGE_SIZE
_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # never wait for a pipe
_MEMORIES_MAX = (_HEAD_SIZE - _HEAD.size - _HASH.size) // _MEMORY.size


class ImageMemory(NamedTuple):
    """One memory in an image: its number, its bytes, where they stand, and its pages' sum."""

    memory_index: int
    size: int
    offset: int
    hash_sum: int


@dataclass(frozen=True, slots=True)
class MemoryImage:
    """An open image; a context manager."""

    fd: int
    memories: tuple[ImageMemory, ...]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; what was mapped from it stays."""
        os.close(self.fd)


class ImageKey(NamedTuple):
    """Which snapshot an image is of."""

    journal_id: bytes
    seq: int
    digest: bytes

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.journal_id.hex()}-{self.seq}-{self.digest.hex()}.image"


def default_folder(cache: Path | None) -> Path:
    """Where images are kept: beside the compiled modules."""
    return (cache or default_cache()).parent / "images"


# -- making one ------------------------------------------------------------------------------------


class _ImageWriter:
    """The memories of an image that is being made: each has room for the largest in the file.

    > Why not through a mapping? Where the disk is full, writing to one ends the process.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._sizes: dict[int, int] = {}
        self._touched: dict[int, set[int]] = {}

    def apply(self, event: MemoryPages) -> None:
        """Let pages be what an event says."""
        offset, touched = self._grow(event.memory, event.size), self._touched[event.memory]
        for number, kind, data in paging.decode_resolved_pages(event):
            at = offset + number * PAGE_SIZE
            if kind is PageKind.PATCHED:
                before = os.pread(self._fd, PAGE_SIZE, at).ljust(PAGE_SIZE, b"\0")
                data = paging.apply_patch(before, data)
            elif kind is PageKind.ZERO and number not in touched:
                continue
            os.pwrite(self._fd, data or paging.ZERO_PAGE, at)
            touched.add(number)

    def _grow(self, memory: int, size: int) -> int:
        """See to it that a memory has so many bytes; where they begin."""
        before = self._sizes.get(memory, 0)
        if size < before or size > paging.SIZE_MAX:
            raise NotResumable(f"memory {memory} of {before} bytes cannot have {size}")
        self._sizes[memory] = size
        self._touched.setdefault(memory, set())
        if len(self._sizes) > _MEMORIES_MAX:
            raise NotResumable(f"a snapshot has more than {_MEMORIES_MAX} memories")
        return self._offset(memory)

    def _offset(self, memory: int) -> int:
        return _HEAD_SIZE + list(self._sizes).index(memory) * paging.SIZE_MAX

    def finish(self, key: ImageKey) -> tuple[ImageMemory, ...]:
        """Write the head."""
        memories = []
        for index, size in self._sizes.items():
            total, offset = 0, self._offset(index)
            for number in self._touched[index]:
                page = os.pread(self._fd, PAGE_SIZE, offset + number * PAGE_SIZE)
                if page != paging.ZERO_PAGE:
                    total = paging.update_hash_sum(total, paging.hash_page(index, number, page), 0)
            memories.append(ImageMemory(index, size, offset, total))
        os.ftruncate(self._fd, max((one.offset + one.size for one in memories), default=_HEAD_SIZE))
        os.pwrite(self._fd, _encode_header(key, memories), 0)
        return tuple(memories)


def _encode_header(key: ImageKey, memories: list[ImageMemory]) -> bytes:
    head = _HEAD.pack(_MAGIC, key.journal_id, key.seq, len(memories))
    for one in memories:
        head += _MEMORY.pack(
            one.memory_index, one.size, one.offset, one.hash_sum.to_bytes(16, "little")
        )
    head = head.ljust(_HEAD_SIZE - _HASH.size, b"\0")
    return head + _HASH.pack(xxhash.xxh3_64_intdigest(head))


Frames = Callable[[], Iterable[Frame]]


def make_image(frames: Frames, key: ImageKey, folder: Path) -> MemoryImage:
    """Make the image of a snapshot from the pages that lead to it, and keep it in ``folder``.

    Where that cannot be written it is kept nowhere. Raises NotResumable for pages that cannot be.
    """
    images: list[MemoryImage] = []

    def draw(file: BinaryIO) -> None:
        images.append(_write_image(frames(), key, file.fileno()))

    path = folder / key.name
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        durable.replace(path, draw)
        _mark_as_verified(path, images[0].fd)
        _prune(folder)
    if not images:
        with os.fdopen(os.memfd_create(key.name), "w+b") as file:
            draw(file)
    return images[0]


def _write_image(frames: Iterable[Frame], key: ImageKey, fd: int) -> MemoryImage:
    writer = _ImageWriter(fd)
    for frame in frames:
        try:
            event = codec.decode(frame.tag, frame.payload, frame.offset)
            assert isinstance(event, MemoryPages)
            writer.apply(event)
        except MalformedEvent as error:
            raise NotResumable(f"event {frame.seq} has impossible pages: {error}") from error
    memories = writer.finish(key)
    return MemoryImage(os.dup(fd), memories)


# -- finding one -----------------------------------------------------------------------------------


def find_image(key: ImageKey, folder: Path) -> MemoryImage | None:
    """The image of a snapshot, if there is one and it is what it was; what is not is removed."""
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
                os.utime(path.with_suffix(".checked"))  # what was used last is pruned last
                image, fd = MemoryImage(fd, memories), -1
                return image
        finally:
            if fd >= 0:
                os.close(fd)
        path.unlink()
    return None


def remove_image(key: ImageKey, folder: Path) -> None:
    """Remove the image of a snapshot, if there is one."""
    path = folder / key.name
    for each in (path, path.with_suffix(".checked")):
        with suppress(OSError):
            each.unlink()


def _read_header(fd: int, key: ImageKey) -> tuple[ImageMemory, ...] | None:
    head = os.pread(fd, _HEAD_SIZE, 0)
    if len(head) < _HEAD_SIZE:
        return None
    (found,) = _HASH.unpack_from(head, _HEAD_SIZE - _HASH.size)
    if found != xxhash.xxh3_64_intdigest(head[: -_HASH.size]):
        return None
    magic, journal_id, seq, count = _HEAD.unpack_from(head)
    if (magic, journal_id, seq) != (_MAGIC, key.journal_id, key.seq) or count > _MEMORIES_MAX:
        return None
    memories, end = [], _HEAD_SIZE
    for at in range(count):
        index, size, offset, total = _MEMORY.unpack_from(head, _HEAD.size + at * _MEMORY.size)
        if offset != _HEAD_SIZE + at * paging.SIZE_MAX or not _is_valid_size(size):
            return None
        end = max(end, offset + size)
        memories.append(ImageMemory(index, size, offset, int.from_bytes(total, "little")))
    return tuple(memories) if os.fstat(fd).st_size == end else None


def _is_valid_size(size: int) -> bool:
    return size <= paging.SIZE_MAX and not size % PAGE_SIZE


def _verify_pages(path: Path, fd: int, memories: tuple[ImageMemory, ...]) -> bool:
    """Whether all pages are what they were when the image was made."""
    for one in memories:
        total = 0
        for start, stop in _iter_data_ranges(fd, one.offset, one.offset + one.size):
            for at in range(start - start % PAGE_SIZE, stop, PAGE_SIZE):
                page = os.pread(fd, PAGE_SIZE, at)
                if page != paging.ZERO_PAGE:
                    number = (at - one.offset) // PAGE_SIZE
                    total = paging.update_hash_sum(
                        total, paging.hash_page(one.memory_index, number, page), 0
                    )
        if total != one.hash_sum:
            return False
    _mark_as_verified(path, fd)
    return True


def _iter_data_ranges(fd: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Where a file has bytes, in order."""
    at = start
    while at < stop:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:  # nothing but holes
            return
        end = min(os.lseek(fd, at, os.SEEK_HOLE), stop)
        if at < stop:
            yield at, end
        at = end


def _file_identity(fd: int) -> bytes:
    found = os.fstat(fd)
    return b"%d %d %d %d\n" % (
        found.st_ino,
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
    )


def _mark_as_verified(path: Path, fd: int) -> None:
    with suppress(OSError):
        durable.replace(path.with_suffix(".checked"), _file_identity(fd))


def _is_verified(path: Path, fd: int) -> bool:
    mark = path.with_suffix(".checked")
    with suppress(OSError):
        return is_private(mark) and mark.read_bytes() == _file_identity(fd)
    return False


def _prune(folder: Path) -> None:
    """Keep the images that were used last, and nothing that a crash has left."""
    with suppress(OSError):
        for image in sorted(folder.glob("*.image"), key=_last_use)[:-IMAGES_COUNT_MAX]:
            image.unlink(missing_ok=True)
        for mark in folder.glob("*.checked"):
            if not mark.with_suffix(".image").exists():
                mark.unlink(missing_ok=True)
        for begun in folder.glob(".*.tmp"):
            if begun.stat().st_mtime < time.time() - _TEMPORARY_AGE_MAX_SECONDS:
                begun.unlink(missing_ok=True)


def _last_use(image: Path) -> int:
    with suppress(OSError):
        return image.with_suffix(".checked").stat().st_mtime_ns
    with suppress(OSError):  # a crash came before it was marked
        return image.stat().st_mtime_ns
    return 0
