"""The events of files in memory that come in masses, played without making events of them.

What is played here is played as by the host, in fewer steps; what is not as plain as most events
are is left to that.
"""

import struct
from collections.abc import Callable
from itertools import compress
from typing import NamedTuple

from journal.compaction.event_classes import WRITE
from journal.compaction.liveness.dependency_graph import BASE, Ledger
from journal.compaction.liveness.descriptor_provenance import (
    OwnedDescription,
    OwnedNumber,
    SpanTable,
)
from journal.compaction.liveness.file_provenance import (
    SpanDirectoryNode,
    SpanFile,
    SpanFileNode,
    SpanKeeper,
)
from journal.compaction.liveness.write_batch import Writes, columns
from journal.events import descriptors, paths
from journal.events.paths import OpenFlags
from journal.format.block import Block
from journal.replay.filesystem.path_resolution import NAME_SIZE_MAX
from journal.replay.limits import COUNT_MAX
from journal.replay.state.descriptor_table import OpenDirectory, OpenFile

_OPEN = struct.Struct("<IIIHHQQI")
_TWO = struct.Struct("<II")
_RENAME = struct.Struct("<III")
_SIZE = struct.Struct("<I")
_CREATE, _DIRECTORY, _EXCLUSIVE, _TRUNCATE = map(int, OpenFlags)
_SPECIAL = frozenset(("", ".", ".."))
_MICROSECOND = 1000
_IS_WRITE = bytes(tag == WRITE for tag in range(256))
_CLOSE_TAG = descriptors.CloseFileDescriptor.tag
_DUPLICATE_TAG = descriptors.DuplicateFileDescriptor.tag
_OPEN_TAG = descriptors.OpenFileDescriptor.tag
_RENAME_TAG = paths.PathRename.tag


class Rows:
    """Events to be played, column by column.

    Their payloads are in ``raw``, from ``begins`` to before ``ends``; times in µs since the epoch.
    """

    __slots__ = ("begins", "ends", "raw", "seqs", "tags", "times")

    def __init__(self, block: Block, mask: bytes) -> None:
        """Those of a block for which ``mask`` has a 1; behind its end is none."""
        self.raw, ends = block.payload_bytes()
        self.begins = list(compress([0, *ends], mask))
        self.ends = list(compress(ends, mask))
        self.seqs = list(compress(block.seqs, mask))
        self.times = list(compress(block.times, mask))
        self.tags = bytes(compress(block.tags, mask))

    def payload(self, index: int) -> bytes:
        """The payload of one."""
        return self.raw[self.begins[index] : self.ends[index]]

    def writes(self, ledger: Ledger) -> Writes | None:
        """The writes to files; None where they have to be looked at one by one."""
        mask = self.tags.translate(_IS_WRITE)
        begins, ends = list(compress(self.begins, mask)), list(compress(self.ends, mask))
        found = columns(self.raw, begins, ends)
        return None if found is None else Writes(found, compress(self.seqs, mask), ledger)


class Folder(NamedTuple):
    """A directory that a path leads to through plain ones: who keeps it, and who made the way."""

    keeper: SpanKeeper
    at: SpanDirectoryNode
    needs: tuple[int, ...]


class Quick:
    """Plays events onto a table and what its descriptors stand for.

    Where a folder is, is known until something is played elsewhere.
    """

    __slots__ = ("_folders", "_ledger", "_used")

    def __init__(self, table: SpanTable, ledger: Ledger) -> None:
        self._ledger = ledger
        self._used = table.used
        self._folders: dict[tuple[int, bytes], Folder] = {}

    def play(self, rows: Rows, other: Callable[[int, bool], SpanTable]) -> bool:
        """Play events; whether the last was played here.

        ``other(index, was_quick)`` plays what is not, and gives the table behind it.
        """
        seqs, tags, times = rows.seqs, rows.tags, rows.times
        writes = rows.writes(self._ledger)
        at = taken = 0
        count, was_quick = len(tags), False
        while at < count:
            tag, start = tags[at], at
            if tag == WRITE and writes is not None:
                at += _run(tags, at, writes.fds, taken)
                behind = taken + at - start
                is_played = self._write(writes, taken, behind, times[at - 1] * _MICROSECOND)
                taken = behind
            else:
                at += 1
                now = times[start] * _MICROSECOND
                is_played = self._play_one(tag, seqs[start], rows.payload(start), now)
            if not is_played:
                for index in range(start, at):
                    table = other(index, was_quick)
                    was_quick = False
                self._used = table.used
                self._folders.clear()
            was_quick = is_played
        return was_quick

    def _play_one(self, tag: int, seq: int, payload: bytes, now: int) -> bool:
        """Play an event, and say so; or do nothing."""
        if tag == _CLOSE_TAG:
            return self._close(seq, payload)
        if tag == _OPEN_TAG:
            return self._open(seq, payload, now)
        if tag == _RENAME_TAG:
            return self._rename(seq, payload, now)
        if tag == _DUPLICATE_TAG:
            return self._duplicate(seq, payload)
        return False

    def _write(self, writes: Writes, first: int, behind: int, now: int) -> bool:
        """Play writes through one descriptor, one behind the other."""
        number = self._used.get(writes.fds[first])
        if number is None:
            return False
        about = number.description
        thing = about.thing
        if not isinstance(thing, OpenFile):
            return False
        file = thing.file
        assert isinstance(number, OwnedNumber)
        assert isinstance(about, OwnedDescription)
        assert isinstance(file, SpanFile)
        file.put_late(writes, first, behind, now, number.by)
        about.position, about.positioned = writes.stops[behind - 1], writes.seqs[behind - 1]
        return True

    def _close(self, seq: int, payload: bytes) -> bool:
        if len(payload) != _SIZE.size:
            return False
        fd = int.from_bytes(payload, "little")
        number = self._used.get(fd)
        if number is None:
            return False
        about = number.description
        thing = about.thing
        assert isinstance(number, OwnedNumber)
        if not isinstance(thing, OpenFile) or number.by == BASE:
            return False
        ledger = self._ledger
        ledger.seq = seq
        ledger.tie(seq, number.by)
        ledger.tie(number.by, seq)
        del self._used[fd]
        about.numbers -= 1
        if not about.numbers:
            thing.file.close()
        return True

    def _duplicate(self, seq: int, payload: bytes) -> bool:
        if len(payload) != _TWO.size:
            return False
        original, copied = _TWO.unpack(payload)
        used = self._used
        found = used.get(original)
        if found is None or copied in used or len(used) >= COUNT_MAX:
            return False
        about = found.description
        if not isinstance(about.thing, OpenFile):
            return False
        assert isinstance(found, OwnedNumber)
        assert isinstance(about, OwnedDescription)
        self._ledger.need_these(seq, (found.by, found.limited))
        about.numbers += 1
        used[copied] = OwnedNumber(about, 0, found.rights, seq)
        return True

    def _open(self, seq: int, payload: bytes, now: int) -> bool:
        if len(payload) < _OPEN.size:
            return False
        fd, dirfd, _, flags, fs_flags, base, inheriting, size = _OPEN.unpack_from(payload)
        used = self._used
        if size != len(payload) - _OPEN.size or fd in used or len(used) >= COUNT_MAX:
            return False
        found = self._place(dirfd, payload[_OPEN.size :])
        if found is None:
            return False
        (keeper, at, needs), name = found
        node = at.entries.get(name)
        if node is None:
            if not flags & _CREATE or not at.links:
                return False
            self._ledger.need_these(seq, needs)
            file = keeper.make_file(at, name, now)
        elif isinstance(node, SpanFileNode) and not flags & (_EXCLUSIVE | _DIRECTORY):
            self._ledger.need_these(seq, (at.names[name], *needs))
            file = SpanFile(keeper, node)
            if flags & _TRUNCATE:
                file.set_size(0, now)
        else:
            return False
        about = OwnedDescription(OpenFile(file), fs_flags, seq)
        about.numbers = 1
        used[fd] = OwnedNumber(about, 0, (base, inheriting), seq)
        return True

    def _rename(self, seq: int, payload: bytes, now: int) -> bool:
        if len(payload) < _RENAME.size:
            return False
        old_fd, new_fd, size = _RENAME.unpack_from(payload)
        middle = _RENAME.size + size
        behind = middle + _SIZE.size
        if int.from_bytes(payload[middle:behind], "little") != len(payload) - behind:
            return False
        old = self._place(old_fd, payload[_RENAME.size : middle])
        new = self._place(new_fd, payload[behind:])
        if old is None or new is None:
            return False
        (keeper, at, needs), name = old
        (other, to, more), to_name = new
        if keeper is not other or not to.links:
            return False
        replaced = to.entries.get(to_name)
        if not isinstance(at.entries.get(name), SpanFileNode):
            return False
        if replaced is not None and not isinstance(replaced, SpanFileNode):
            return False
        self._ledger.need_these(seq, (at.names[name], *needs, *more))
        keeper.move(at, name, to, to_name, now)
        return True

    def _place(self, fd: int, path: bytes) -> tuple[Folder, str] | None:
        """Where a path leads through plain directories; None where that takes more than names."""
        if len(path) > NAME_SIZE_MAX or 0 in path:
            return None
        cut = path.rfind(b"/") + 1
        head = path[:cut]
        folder = self._folders.get((fd, head))
        try:
            if folder is None:
                folder = self._folder(fd, str(head, "utf-8"))
                if folder is None:
                    return None
                self._folders[fd, head] = folder
            name = str(path[cut:], "utf-8")
        except UnicodeDecodeError:
            return None
        return None if name in _SPECIAL else (folder, name)

    def _folder(self, fd: int, head: str) -> Folder | None:
        number = self._used.get(fd)
        if number is None or not isinstance(thing := number.description.thing, OpenDirectory):
            return None
        assert isinstance(number, OwnedNumber)
        at, keeper, needs = thing.directory.at, thing.directory.keeper, [number.by]
        assert isinstance(at, SpanDirectoryNode)
        assert isinstance(keeper, SpanKeeper)
        for passed in head.split("/")[:-1]:
            inner = at.entries.get(passed)
            if passed in _SPECIAL or not isinstance(inner, SpanDirectoryNode):
                return None
            needs.append(at.names[passed])
            at = inner
        return Folder(keeper, at, tuple(needs))


def _run(tags: bytes, at: int, fds: list[int], nth: int) -> int:
    """How many writes follow each other through one descriptor."""
    fd, count, stop = fds[nth], 1, len(tags) - at
    while count < stop and tags[at + count] == WRITE and fds[nth + count] == fd:
        count += 1
    return count
