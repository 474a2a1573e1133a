"""The journals of the processes of one run, and what they say about processes and pipes.

The journal of the first process has any path, such as ``work.journal``. Those of the others are in
the directory ``work.children`` beside it: ``2.journal`` is that of process 2, and ``2-1.journal``
that of its second program, after an exec.
"""

from bisect import bisect_left
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from journal.engine.session.run_result import ExitKind, RunResult
from journal.engine.wasi.objects.shared_pipe import PipeId, PipePart
from journal.engine.wasi.processes import FIRST_PID
from journal.errors import JournalError, NotResumable
from journal.events import codec, tag_sets
from journal.events.core import ProcessExit
from journal.events.process import ParentLink, ProcessTrap, SessionStart
from journal.events.processes import (
    ChildEnded,
    ChildStart,
    ChildStarted,
    EndKind,
    PipeRead,
    PipeWrite,
    StartedKind,
    StreamPassed,
)
from journal.log.reader import Reader
from journal.log.segment_files import remove_journal

UNREAD_SIZE_MAX = 64 << 20
"""Largest size of the bytes that all pipes of a recorded run may hold. Each pipe is bounded."""

MEMBERS_MAX = 1 << 16
"""Largest count of the processes of a recorded run."""

IMAGES_MAX = 1 << 16
"""Largest count of the programs of one process."""

_STDIN = 0


def find_directory(path: Path) -> Path:
    """Return the directory with the journals of the other processes of a run."""
    return path.with_name(f"{path.name.removesuffix('.journal')}.children")


def find_path(path: Path, pid: int, image: int = 0) -> Path:
    """Return the path of the journal of a process; ``path`` is that of the first process."""
    if pid == FIRST_PID and not image:
        return path
    return find_directory(path) / (f"{pid}-{image}.journal" if image else f"{pid}.journal")


@dataclass(slots=True)
class RecordedMember:
    """A recorded process. ``result`` is None if its program has not ended.

    ``starter`` is the id of the journal whose process started it. The journal of a fork begins with
    the events of its parent.
    """

    pid: int
    parent: int
    image: int
    path: Path
    starter: bytes = b""
    is_fork: bool = False
    result: RunResult | None = None
    is_joined: bool = False


@dataclass(slots=True)
class PipeContents:
    """Bytes of a pipe that were written and not read, and the count of all written bytes."""

    parts: list[PipePart] = field(default_factory=list)
    end: int = 0


@dataclass(slots=True)
class RecordedTree:
    """The processes of a recorded run besides the first one, by number, and its pipes."""

    members: dict[int, RecordedMember] = field(default_factory=dict)
    pipes: dict[PipeId, PipeContents] = field(default_factory=dict)
    last_pid: int = FIRST_PID

    def has_running(self, pid: int) -> bool:
        """Return whether a process has not ended."""
        return pid not in self.members or self.members[pid].result is None


_STRUCTURE = frozenset((ChildStarted.tag, ChildEnded.tag, *tag_sets.ENDS))
_LINKS = frozenset((ParentLink.tag,))
_STARTS = frozenset((ChildStart.tag, SessionStart.tag))
_TRANSFERS = frozenset((PipeWrite.tag, PipeRead.tag, StreamPassed.tag))
_WRITES = frozenset((PipeWrite.tag, StreamPassed.tag))


def read_tree(path: Path) -> RecordedTree:
    """Return the processes and pipes of the run whose first process has the journal ``path``.

    Raises ``NotResumable`` if a journal is missing or is not that of its process.
    """
    tree = RecordedTree()
    with ExitStack() as stack:
        readers: list[tuple[Reader, int]] = []
        pending = [RecordedMember(FIRST_PID, 0, 0, path)]
        while pending:
            member = pending.pop()
            reader = stack.enter_context(_open(member))
            if member.starter:
                _check_start(reader, member)
            start = _find_own_start(reader) if member.is_fork else 0
            readers.append((reader, start))
            pending += _read_structure(member, reader, start, path, tree)
        _read_pipes(readers, tree)
    return tree


def _open(member: RecordedMember) -> Reader:
    if not member.path.exists():
        raise NotResumable(
            f"the journal of process {member.pid}, {member.path}, is missing: it belongs to the "
            "run, which cannot be resumed without it"
        )
    return Reader(member.path)


def _find_own_start(reader: Reader) -> int:
    """Return the number of the first event of a fork that is not its parent's."""
    return max((frame.seq + 1 for frame in reader.last(1, tags=_LINKS)), default=0)


def _read_structure(
    member: RecordedMember, reader: Reader, start: int, root: Path, tree: RecordedTree
) -> list[RecordedMember]:
    """Read what a process has started and joined, and how it ended; return what it started."""
    started: list[RecordedMember] = []
    for frame in reader.frames(start, tags=_STRUCTURE):
        event = codec.decode(frame.tag, frame.payload, frame.offset)
        if isinstance(event, ChildStarted):
            if not event.errno and event.kind in (StartedKind.CHILD, StartedKind.FORK):
                _add_member(tree, started, member, event, root, reader.journal_id)
            elif not event.errno and event.kind is StartedKind.PROGRAM:
                started.append(_replace(tree, member, event, root, reader.journal_id))
        elif isinstance(event, ChildEnded) and event.kind is not EndKind.NONE:
            if event.pid in tree.members:
                tree.members[event.pid].is_joined = True
        elif isinstance(event, ProcessExit):
            member.result = RunResult(ExitKind.EXITED, (event.exit_code or 0) & 0xFFFFFFFF)
        elif isinstance(event, ProcessTrap):
            member.result = RunResult(ExitKind.TRAPPED, None, event.kind, event.message)
    return started


def _replace(
    tree: RecordedTree, member: RecordedMember, event: ChildStarted, root: Path, starter: bytes
) -> RecordedMember:
    """Return the process after its program was replaced."""
    if event.image != member.image + 1 or event.image > IMAGES_MAX:
        raise NotResumable(f"the programs of process {member.pid} are not in order")
    path = find_path(root, member.pid, event.image)
    replaced = RecordedMember(member.pid, member.parent, event.image, path, starter)
    tree.members[member.pid] = replaced
    return replaced


def _add_member(
    tree: RecordedTree,
    started: list[RecordedMember],
    parent: RecordedMember,
    event: ChildStarted,
    root: Path,
    starter: bytes,
) -> None:
    if event.pid in tree.members or event.pid <= FIRST_PID or len(tree.members) >= MEMBERS_MAX:
        raise NotResumable(f"the journals of the run start process {event.pid} more than once")
    path = find_path(root, event.pid)
    is_fork = event.kind is StartedKind.FORK
    child = RecordedMember(event.pid, parent.pid, 0, path, starter, is_fork)
    tree.members[event.pid] = child
    tree.last_pid = max(tree.last_pid, event.pid)
    started.append(child)


def _check_start(reader: Reader, member: RecordedMember) -> None:
    """Raise ``NotResumable`` unless a journal begins as that of this process."""
    if member.is_fork:
        if reader.journal_id != member.starter:
            raise _foreign_error(member)
        return
    start = _read_start(reader)
    expected = member.starter, member.pid, member.parent, member.image
    if start is None or (start.journal, start.pid, start.parent, start.image) != expected:
        raise _foreign_error(member)


def _foreign_error(member: RecordedMember) -> NotResumable:
    return NotResumable(f"{member.path} is not the journal of process {member.pid} of the run")


def _read_start(reader: Reader) -> ChildStart | None:
    """Return how the process of a journal was started, None for the first one of a run."""
    for frame in reader.frames(tags=_STARTS):
        if frame.tag == SessionStart.tag:
            return None
        event = codec.decode(frame.tag, frame.payload, frame.offset)
        if isinstance(event, ChildStart):
            return event
    return None


def make_room(path: Path, starter: bytes) -> bool:
    """Return whether a new journal can have this path. ``starter`` is the journal that starts it.

    A process runs when the journal of its starter has its number. A crash before that leaves a
    journal of a process that never ran: it is removed. Any other journal stays.
    """
    if not path.exists():
        return True
    try:
        with Reader(path) as reader:
            start = _read_start(reader)
            is_fork = reader.journal_id == starter
    except JournalError:
        return False
    if not is_fork and (start is None or start.journal != starter):
        return False
    remove_journal(path)
    return not path.exists()


class _Ranges:
    """Ranges of bytes that were read from one pipe, joined and in order."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []

    def add(self, begin: int, end: int) -> None:
        """Add a range."""
        ranges = self._ranges
        if ranges and ranges[-1][1] == begin:
            ranges[-1] = (ranges[-1][0], end)
        elif begin < end:
            ranges.append((begin, end))

    def sort(self) -> None:
        """Put the ranges in order, and join them."""
        self._ranges.sort()
        joined: list[tuple[int, int]] = []
        for begin, end in self._ranges:
            if joined and begin <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
            else:
                joined.append((begin, end))
        self._ranges = joined

    def subtract(self, part: PipePart) -> Iterator[PipePart]:
        """Yield the pieces of ``part`` that are in no range."""
        offset, end = part.offset, part.offset + len(part.data)
        index = max(bisect_left(self._ranges, (offset, offset)) - 1, 0)
        for begin, until in self._ranges[index:]:
            if begin >= end:
                break
            if begin > offset:
                yield PipePart(offset, part.data[offset - part.offset : begin - part.offset])
            offset = max(offset, until)
        if offset < end:
            yield PipePart(offset, part.data[offset - part.offset :])


def _read_pipes(readers: list[tuple[Reader, int]], tree: RecordedTree) -> None:
    """Find the bytes that were written to each pipe and not read."""
    read: dict[PipeId, _Ranges] = {}
    for reader, start in readers:
        for pipe_id, part, is_write in _list_transfers(reader, start, _TRANSFERS):
            if not is_write:
                read.setdefault(pipe_id, _Ranges()).add(part.offset, part.offset + len(part.data))
    for ranges in read.values():
        ranges.sort()
    size = 0
    for reader, start in readers:
        for pipe_id, part, is_write in _list_transfers(reader, start, _WRITES):
            if not is_write:
                continue
            contents = tree.pipes.setdefault(pipe_id, PipeContents())
            contents.end = max(contents.end, part.offset + len(part.data))
            rest = list(read.get(pipe_id, _Ranges()).subtract(part))
            contents.parts += rest
            size += sum(len(each.data) for each in rest)
            if size > UNREAD_SIZE_MAX:
                raise NotResumable(
                    f"the pipes of the run have more than {UNREAD_SIZE_MAX} bytes: "
                    "no recorder writes that"
                )
    for contents in tree.pipes.values():
        contents.parts.sort()


def _list_transfers(
    reader: Reader, start: int, tags: frozenset[int]
) -> Iterator[tuple[PipeId, PipePart, bool]]:
    """Yield the bytes that a process wrote to pipes (true) and read from pipes (false)."""
    for frame in reader.frames(start, tags=tags):
        event = codec.decode(frame.tag, frame.payload, frame.offset)
        if isinstance(event, PipeRead | PipeWrite):
            pipe_id = PipeId(event.creator, event.number)
            yield pipe_id, PipePart(event.offset, event.data), isinstance(event, PipeWrite)
        elif isinstance(event, StreamPassed):
            pipe_id = PipeId(0, event.stream)
            yield pipe_id, PipePart(event.pipe_offset, event.data), event.stream == _STDIN
