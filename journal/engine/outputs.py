"""What the guest prints, and where it goes: in order, after its events, and exactly once.

A write of the guest becomes an event and waits in the outbox. It leaves when the events before it
are safe (:class:`Durability`). A regular file tells how much of the output it holds already; for
a pipe or a terminal the journal keeps a mark after each write, so that only the one in flight at a
crash is in doubt.
"""

import fcntl
import os
import select
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from journal import codec
from journal.errors import OutputLost
from journal.events.streams import StreamDelivered, StreamOpened, StreamWrite, TargetKind

OUTBOX_SIZE_MAX = 1 << 20
STDIN, STDOUT, STDERR = 0, 1, 2
_COMPARE_SIZE = 1 << 20

_pack_delivered = codec.packer(StreamDelivered)


class Durability(Enum):
    """When what the guest does to the world may happen."""

    NONE = "none"  # after its events are with the kernel; never synced before the end
    INTERVAL = "interval"  # the same, and synced once a second
    OUTPUT = "output"  # after its events survive a power loss


class InFlight(Enum):
    """What becomes of the one write that a crash left in doubt."""

    REPEAT = "repeat"
    DROP = "drop"


class Keeper(Protocol):
    """What an outbox needs of the journal's writer."""

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Append a frame."""

    def flush(self) -> None:
        """Hand everything to the kernel."""


@dataclass(slots=True)
class Outlet:
    """A target of one or more streams.

    ``base`` is where in a regular file the output's first byte stands, ``skip`` how many bytes of
    the recorded output it need not get again.
    """

    kind: TargetKind
    fd: int = -1
    append: bool = False
    base: int = 0
    device: int = 0
    inode: int = 0
    skip: int = 0
    captured: bytearray = field(default_factory=bytearray)

    @classmethod
    def of_descriptor(cls, fd: int) -> "Outlet":
        """The target behind an open descriptor of this process."""
        found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode):
            append = bool(_status_flags(fd) & os.O_APPEND)
            base = found.st_size if append else os.lseek(fd, 0, os.SEEK_CUR)
            kind = TargetKind.REGULAR
        else:
            append, base = False, 0
            kind = _kind_of(fd, found.st_mode)
        return cls(kind, fd, append, base, found.st_dev, found.st_ino)

    def opened(self, stream: int) -> StreamOpened:
        """The event that says what this target is."""
        return StreamOpened(
            stream=stream,
            kind=self.kind,
            append=self.append,
            position=self.base,
            device=self.device,
            inode=self.inode,
        )

    def write(self, data: bytes) -> None:
        """Write all of ``data``; raises ``OutputLost``."""
        if self.kind is TargetKind.CAPTURED:
            self.captured += data
            return
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self.fd, rest) :]
            except BlockingIOError:
                _wait_writable(self.fd)
            except OSError as error:
                raise OutputLost(
                    f"the output could not be delivered: {error.strerror}; the journal has it, "
                    "and a resume delivers it"
                ) from error


def _status_flags(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_GETFL)


def _wait_writable(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    poll.poll()


def _kind_of(fd: int, mode: int) -> TargetKind:
    if os.isatty(fd):
        return TargetKind.TERMINAL
    return TargetKind.PIPE if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else TargetKind.OTHER


class Outbox:
    """Outputs that wait until their events are safe.

    ``barrier`` makes the events safe, ``arm`` asks for :meth:`deliver` to be called soon.
    """

    def __init__(
        self,
        outlets: dict[int, Outlet],
        keeper: Keeper,
        barrier: Callable[[], None],
        arm: Callable[[], None],
    ) -> None:
        self._outlets = outlets
        self._keeper = keeper
        self._barrier, self._arm = barrier, arm
        self._waiting: list[tuple[int, int, bytes]] = []
        self._size = 0

    def put(self, stream: int, offset: int, data: bytes) -> None:
        """Let ``data`` leave when it may."""
        self._waiting.append((stream, offset + len(data), data))
        self._size += len(data)
        if self._size > OUTBOX_SIZE_MAX:
            self.deliver()
        elif len(self._waiting) == 1:
            self._arm()

    def put_again(self, stream: int, offset: int, data: bytes) -> None:
        """A write that the journal has: only what its target has not got yet leaves."""
        outlet = self._outlets[stream]
        known = min(outlet.skip, len(data))
        outlet.skip -= known
        if known < len(data):
            self.put(stream, offset + known, data[known:])

    def deliver(self) -> None:
        """Make the events safe, then write everything that waits, in order."""
        if not self._waiting:
            return
        waiting, self._waiting, self._size = self._waiting, [], 0
        self._barrier()
        first = True
        for outlet, upto, data in self._joined(waiting):
            if outlet.kind not in (TargetKind.REGULAR, TargetKind.CAPTURED) and not first:
                # The mark of the write before must be with the kernel before this one begins,
                # or a crash would leave two in doubt.
                self._keeper.flush()
            outlet.write(data)
            first = False
            for stream, offset in upto.items() if outlet.kind is not TargetKind.CAPTURED else ():
                self._keeper.append_frame(StreamDelivered.tag, _pack_delivered(stream, offset))

    def _joined(
        self, waiting: list[tuple[int, int, bytes]]
    ) -> Iterable[tuple[Outlet, dict[int, int], bytes]]:
        """What leaves in one write: neighbours that share a regular file are joined."""
        outlet: Outlet | None = None
        upto: dict[int, int] = {}
        parts: list[bytes] = []
        for stream, offset, data in waiting:
            target = self._outlets[stream]
            joins = target is outlet and target.kind is TargetKind.REGULAR
            if outlet is not None and not joins:
                yield outlet, upto, b"".join(parts)
                upto, parts = {}, []
            outlet = target
            upto[stream] = offset
            parts.append(data)
        if outlet is not None:
            yield outlet, upto, b"".join(parts)


@dataclass(slots=True)
class StreamHistory:
    """What a journal says about the target of one stream."""

    targets: list[tuple[StreamOpened, int]] = field(default_factory=list)
    delivered: int = 0

    def last_at(self, outlet: Outlet) -> tuple[StreamOpened, int] | None:
        """The latest target that is the same file, with what it had then."""
        for opened, floor in reversed(self.targets):
            same = (opened.device, opened.inode) == (outlet.device, outlet.inode)
            if opened.kind is TargetKind.REGULAR and same:
                return opened, floor
        return None


def history_of(marks: Iterable[tuple[int, bytes]]) -> dict[int, StreamHistory]:
    """The histories of the streams, from the ``(tag, payload)`` of a journal's marks in order."""
    histories = {stream: StreamHistory() for stream in (STDIN, STDOUT, STDERR)}
    fresh: set[int] = set()
    for tag, payload in marks:
        event = codec.decode(tag, payload)
        if isinstance(event, StreamOpened):
            histories[event.stream].targets.append((event, 0))
            fresh.add(event.stream)
        elif isinstance(event, StreamDelivered):
            history = histories[event.stream]
            if event.stream in fresh:  # the first mark of a session is what its target had
                history.targets[-1] = (history.targets[-1][0], event.upto)
                fresh.discard(event.stream)
            history.delivered = max(history.delivered, event.upto)
    return histories


Writes = Callable[[], Iterable[tuple[int, bytes]]]


def settle(
    outlets: dict[int, Outlet],
    histories: dict[int, StreamHistory],
    writes: Writes,
    in_flight: InFlight,
) -> dict[int, int]:
    """Find out how much of the recorded output each target holds; sets ``skip`` and ``base``.

    ``writes()`` gives the recorded ``(stream, data)`` in order. The result is what each stream's
    target holds of that stream, in bytes.
    """
    delivered = dict.fromkeys(outlets, 0)
    for outlet in {id(outlet): outlet for outlet in outlets.values()}.values():
        streams = {stream for stream, found in outlets.items() if found is outlet}
        if outlet.kind is TargetKind.REGULAR:
            _settle_file(outlet, streams, histories, writes)
        elif outlet.kind is not TargetKind.CAPTURED:
            (stream,) = streams
            outlet.skip = histories[stream].delivered
            if in_flight is InFlight.DROP:
                outlet.skip = _end_of_write_at(outlet.skip, stream, writes())
        for stream, size in _shares(outlet.skip, streams, writes()):
            delivered[stream] += size
    return delivered


def _common(a: bytes, b: bytes) -> int:
    """How many bytes ``a`` and ``b`` begin with alike."""
    size = min(len(a), len(b))
    if a[:size] == b[:size]:
        return size
    return next(index for index in range(size) if a[index] != b[index])


def _shares(
    size: int, streams: set[int], writes: Iterable[tuple[int, bytes]]
) -> Iterable[tuple[int, int]]:
    """Whose the first ``size`` bytes are that ``streams`` have written."""
    if size and len(streams) == 1:
        yield next(iter(streams)), size
        return
    for stream, data in writes if size else ():
        if stream in streams:
            part = min(size, len(data))
            yield stream, part
            size -= part
            if not size:
                return


def _settle_file(
    outlet: Outlet, streams: set[int], histories: dict[int, StreamHistory], writes: Writes
) -> None:
    size = os.fstat(outlet.fd).st_size
    output = (data for stream, data in writes() if stream in streams)
    known = [histories[stream].last_at(outlet) for stream in sorted(streams)]
    same = [found for found in known if found is not None]
    if same and same[0][0].position <= size:
        outlet.base = same[0][0].position
        floor = sum(found[1] for found in same)
        outlet.skip = _matching(outlet, output, floor)
    else:
        bases = [
            opened.position
            for stream in sorted(streams)
            for opened, _ in histories[stream].targets
            if opened.kind is TargetKind.REGULAR
        ]
        copied = Outlet(outlet.kind, outlet.fd, base=bases[-1] if bases else size)
        held = size - copied.base
        if held > 0 and _matching(copied, output, 0) == held:
            outlet.base, outlet.skip = copied.base, held
    if outlet.append:
        # Somebody else may have written behind our output: what follows stands at the end.
        outlet.base = size - outlet.skip if outlet.base + outlet.skip < size else outlet.base
    else:
        os.lseek(outlet.fd, outlet.base + outlet.skip, os.SEEK_SET)


def _matching(outlet: Outlet, output: Iterable[bytes], floor: int) -> int:
    """How many bytes of ``output`` stand in the file; the first ``floor`` are taken as there."""
    try:
        readable = os.open(f"/proc/self/fd/{outlet.fd}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return min(max(os.fstat(outlet.fd).st_size - outlet.base, 0), sum(map(len, output)))
    try:
        at = 0
        for data in output:
            end = at + len(data)
            if end > floor:
                start = max(at, floor)
                wanted = data[start - at :]
                there = os.pread(readable, len(wanted), outlet.base + start)
                if there != wanted:
                    return start + _common(there, wanted)
            at = end
        return at
    finally:
        os.close(readable)


def _end_of_write_at(offset: int, stream: int, writes: Iterable[tuple[int, bytes]]) -> int:
    """The end of the write that ``offset`` lies in, or that begins there."""
    end = 0
    for written, data in writes:
        if written == stream:
            end += len(data)
            if end > offset:
                return end
    return end


def marks_of_session(
    outlets: dict[int, Outlet], delivered: dict[int, int]
) -> list[StreamOpened | StreamDelivered]:
    """The events with which a session says where its outputs go, and what was there already."""
    events: list[StreamOpened | StreamDelivered] = []
    for stream, outlet in sorted(outlets.items()):
        events.append(outlet.opened(stream))
        events.append(StreamDelivered(stream=stream, upto=delivered.get(stream, 0)))
    return events


STREAM_TAGS = frozenset((StreamOpened.tag, StreamDelivered.tag, StreamWrite.tag))
