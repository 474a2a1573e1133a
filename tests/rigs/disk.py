"""An in-memory file system that can produce its possible states after a power cut.

Each file has the content that programs see, the content on the disk, and the queue of changes in
between. Name changes are queued in their directories. A crash keeps everything synced, and any part
of the queues.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

SECTOR_SIZE = 512
PAGE_SIZE = 4096
ROOT = 0
"""Number of the root directory."""


class Write(NamedTuple):
    """Bytes at an offset."""

    offset: int
    data: bytes


class Resize(NamedTuple):
    """A truncation, or an extension by zeros."""

    size: int


class Reserve(NamedTuple):
    """A preallocation: zeros after the end, if the end is below ``end``."""

    end: int


Change = Write | Resize | Reserve
Entry = tuple[int, str]
"""Number of a directory, and a name in it."""
Names = tuple[tuple[Entry, int | None], ...]
"""One atomic change of names: the new number for each, or None to remove it."""


class Content:
    """Bytes of a file in pages. A missing page is zeros up to ``size`` and uses no memory.

    Pages are replaced, never changed, so copies share them.
    """

    __slots__ = ("_pages", "size")

    def __init__(self, data: bytes = b"", size: int | None = None) -> None:
        self._pages: dict[int, bytes] = {}
        self.size = len(data) if size is None else size
        if data:
            self._write(0, data)

    def copy(self) -> Content:
        """Return an independent copy."""
        other = Content(size=self.size)
        other._pages = self._pages.copy()
        return other

    @property
    def end(self) -> int:
        """Return an upper bound of the position of the last nonzero byte."""
        last = max(self._pages, default=0)
        return last * PAGE_SIZE + len(self._pages.get(last, b""))

    def apply(self, change: Change) -> None:
        """Apply a change."""
        if isinstance(change, Write):
            self._write(change.offset, change.data)
            self.size = max(self.size, change.offset + len(change.data))
        elif isinstance(change, Resize):
            self._cut(change.size)
            self.size = change.size
        else:
            self.size = max(self.size, change.end)

    def _write(self, offset: int, data: bytes) -> None:
        at = 0
        while at < len(data):
            number, start = divmod(offset + at, PAGE_SIZE)
            part = data[at : at + PAGE_SIZE - start]
            old = self._pages.get(number, b"")
            self._pages[number] = old[:start].ljust(start, b"\0") + part + old[start + len(part) :]
            at += len(part)

    def _cut(self, size: int) -> None:
        last, rest = divmod(size, PAGE_SIZE)
        for number in [number for number in self._pages if number >= last]:
            page = self._pages.pop(number)
            if number == last and rest:
                self._pages[number] = page[:rest]

    def read(self, size: int, offset: int) -> bytes:
        """Return up to ``size`` bytes, fewer at the end."""
        end = offset + max(0, min(size, self.size - offset))
        parts = []
        while offset < end:
            number, start = divmod(offset, PAGE_SIZE)
            stop = min(PAGE_SIZE, start + end - offset)
            parts.append(self._pages.get(number, b"")[start:stop].ljust(stop - start, b"\0"))
            offset += stop - start
        return b"".join(parts)

    def lay_down(self, path: Path) -> None:
        """Write the content to a real file."""
        with path.open("wb") as file:
            for number, page in self._pages.items():
                file.seek(number * PAGE_SIZE)
                file.write(page)
            file.truncate(self.size)

    def tell(self, summer: blake2b) -> None:
        """Add the content to a digest."""
        summer.update(self.size.to_bytes(8))
        for number, page in sorted(self._pages.items()):
            shown = page.rstrip(b"\0")
            if shown:
                summer.update(number.to_bytes(8) + len(shown).to_bytes(2) + shown)


class Node:
    """One file: ``seen`` by programs, ``stored`` on the disk, and the changes not yet stored.

    ``passed`` counts the changes that have left the queue.
    """

    __slots__ = ("passed", "seen", "stored", "waiting")

    def __init__(self, content: Content | None = None) -> None:
        self.stored = content or Content()
        self.seen = self.stored.copy()
        self.waiting: list[Change] = []
        self.passed = 0


State = dict[str, Content | None]
"""State after a crash, by path; None for a directory."""


class Disk:
    """Files and directories by number, and their names. Paths are relative to the root."""

    def __init__(self, state: State | None = None) -> None:
        self.nodes: dict[int, Node] = {}
        self.directories = {ROOT}
        self.names: dict[Entry, int] = {}
        self.waiting_names: dict[int, list[Names]] = {}
        for path, content in sorted((state or {}).items()):
            number = self.mkdir(path) if content is None else self.create(path)
            if content is not None:
                self.nodes[number] = Node(content.copy())
        self.stored_names = dict(self.names)
        self.waiting_names.clear()

    # -- names -------------------------------------------------------------------------------

    def find(self, path: str) -> int | None:
        """Return the number of the file at a path."""
        number: int | None = ROOT
        for name in path.split("/") if path else ():
            number = None if number is None else self.names.get((number, name))
        return number

    def paths(self) -> list[str]:
        """Return all paths."""
        return sorted(_paths(self.names, self.directories))

    def path_of(self, number: int) -> str:
        """Return the path of a directory."""
        found = _paths(self.names, self.directories).items()
        return next((path for path, to in found if to == number), "")

    def create(self, path: str) -> int:
        """Create an empty file; return its number."""
        number = len(self.nodes) + len(self.directories)
        self.nodes[number] = Node()
        self._rename(((self._entry(path), number),))
        return number

    def mkdir(self, path: str) -> int:
        """Create an empty directory; return its number."""
        number = len(self.nodes) + len(self.directories)
        self.directories.add(number)
        self._rename(((self._entry(path), number),))
        return number

    def link(self, path: str, name: str) -> None:
        """Add another name for a file."""
        self._rename(((self._entry(name), self.find(path)),))

    def unlink(self, path: str) -> None:
        """Remove a name."""
        self._rename(((self._entry(path), None),))

    def rename(self, old: str, new: str) -> None:
        """Rename a file or a directory, and replace any file with the new name."""
        self._rename(((self._entry(old), None), (self._entry(new), self.find(old))))

    def sync_directory(self, number: int) -> None:
        """Store the names in a directory."""
        for change in self.waiting_names.pop(number, []):
            _bind(self.stored_names, change)

    def _entry(self, path: str) -> Entry:
        folder, _, name = path.rpartition("/")
        number = self.find(folder)
        assert number is not None, f"there is no {folder}"
        return number, name

    def _rename(self, change: Names) -> None:
        _bind(self.names, change)
        self.waiting_names.setdefault(change[0][0][0], []).append(change)

    # -- contents ----------------------------------------------------------------------------

    def change(self, number: int, change: Change) -> None:
        """Apply a change for programs, and queue it for the disk."""
        node = self.nodes[number]
        node.seen.apply(change)
        node.waiting.append(change)

    def changes(self, number: int) -> int:
        """Return the number of changes of a file so far: a sync that begins now stores them."""
        node = self.nodes[number]
        return node.passed + len(node.waiting)

    def sync(self, number: int, upto: int | None = None) -> None:
        """Store the first ``upto`` changes of a file, or all."""
        node = self.nodes[number]
        count = len(node.waiting) if upto is None else max(0, upto - node.passed)
        for change in node.waiting[:count]:
            node.stored.apply(change)
        del node.waiting[:count]
        node.passed += count

    def lose(self, number: int) -> None:
        """Fail to store the queued changes and forget them: later syncs succeed.

        > Why? Linux does the same: pages whose write-back failed count as clean, and remain visible
        until they leave the page cache. The file keeps its new size.
        """
        node = self.nodes[number]
        node.waiting = [
            Reserve(change.offset + len(change.data)) if isinstance(change, Write) else change
            for change in node.waiting
        ]

    def evict(self, number: int) -> None:
        """Drop the page cache: programs then see the content of the disk."""
        node = self.nodes[number]
        node.seen = node.stored.copy()
        for change in node.waiting:
            node.seen.apply(change)

    # -- crashes -----------------------------------------------------------------------------

    def crash(self, rng: random.Random) -> State:
        """Return a possible state after a power cut: all synced data, and any part of the rest."""
        names = dict(self.stored_names)
        for changes in self.waiting_names.values():
            for change in _some_names(changes, rng):
                _bind(names, change)
        left = {number: self.left_of(number, rng) for number in sorted(self.nodes)}
        paths = _paths(names, self.directories)
        return {path: left.get(number) for path, number in sorted(paths.items())}

    def left_of(self, number: int, rng: random.Random) -> Content:
        """Return a possible state of one file after a power cut."""
        node = self.nodes[number]
        content = node.stored.copy()
        if node.waiting:
            for change in rng.choice(_KEEPERS)(node.waiting, rng):
                content.apply(change)
        return content


def lay_out(state: State, root: Path) -> None:
    """Write a state as real files in an empty directory."""
    for path, content in sorted(state.items()):
        if content is None:
            (root / path).mkdir()
        else:
            content.lay_down(root / path)


def digest(state: State) -> bytes:
    """Return a digest that identifies a state."""
    summer = blake2b(digest_size=16)
    for path, content in sorted(state.items()):
        summer.update(path.encode() + b"\0")
        if content is not None:
            content.tell(summer)
    return summer.digest()


def _bind(names: dict[Entry, int], change: Names) -> None:
    for entry, number in change:
        if number is None:
            names.pop(entry, None)
        else:
            names[entry] = number


def _paths(names: dict[Entry, int], directories: set[int]) -> dict[str, int]:
    """Return the numbers that can be reached from the root."""
    folders, found = {ROOT: ""}, {}
    while folders:
        deeper = {}
        for (folder, name), number in names.items():
            if folder in folders:
                path = folders[folder] + name
                found[path] = number
                if number in directories:
                    deeper[number] = path + "/"
        folders = deeper
    return found


def _some_names(changes: list[Names], rng: random.Random) -> list[Names]:
    """Keep the first of the changes, as journaling file systems do, or any of them."""
    if rng.random() < 0.5:
        return changes[: rng.randint(0, len(changes))]
    return [change for change in changes if rng.random() < 0.5]


# -- survival of unsynced writes -----------------------------------------------------------------


def _nothing(changes: list[Change], rng: random.Random) -> list[Change]:
    del changes, rng
    return []


def _everything(changes: list[Change], rng: random.Random) -> list[Change]:
    del rng
    return changes


def _the_first(changes: list[Change], rng: random.Random) -> list[Change]:
    """Keep the changes up to a moment, with the last one torn at any byte."""
    kept = changes[: rng.randint(1, len(changes))]
    last = kept[-1]
    if isinstance(last, Write) and last.data:
        kept[-1] = Write(last.offset, last.data[: rng.randint(1, len(last.data))])
    return kept


def _any(changes: list[Change], rng: random.Random) -> list[Change]:
    share = rng.choice((0.3, 0.5, 0.9))
    return [change for change in changes if rng.random() < share]


def _any_sectors(changes: list[Change], rng: random.Random) -> list[Change]:
    return _pieces(changes, rng, SECTOR_SIZE)


def _any_pages(changes: list[Change], rng: random.Random) -> list[Change]:
    return _pieces(changes, rng, PAGE_SIZE)


def _size_and_some(changes: list[Change], rng: random.Random) -> list[Change]:
    """Keep the size and some sectors: missing data reads as zeros."""
    content = Content()
    for change in changes:
        content.apply(change)
    return [Reserve(content.size), *_any_sectors(changes, rng)]


_KEEPERS: tuple[Callable[[list[Change], random.Random], list[Change]], ...] = (
    _nothing,
    _everything,
    _the_first,
    _the_first,
    _any,
    _any_sectors,
    _any_pages,
    _size_and_some,
)


def _pieces(changes: list[Change], rng: random.Random, size: int) -> list[Change]:
    """Keep any of the aligned pieces of the written data."""
    share = rng.choice((0.1, 0.5, 0.8, 0.95))
    kept: list[Change] = []
    for change in changes:
        if not isinstance(change, Write):
            if rng.random() < share:
                kept.append(change)
            continue
        start, end = change.offset, change.offset + len(change.data)
        while start < end:
            stop = min(end, start - start % size + size)
            if rng.random() < share:
                kept.append(Write(start, change.data[start - change.offset : stop - change.offset]))
            start = stop
    return kept
