"""Outbox of the guest: output is delivered in order, after its events, and exactly once.

A write of the guest becomes an event and waits in the outbox. It is delivered once the events
before it are safe (:class:`Durability`). A regular file shows how much of the output it already
holds. For a pipe, a terminal or a function the journal records each delivered write, so a crash
leaves only the write in flight in doubt.
"""

import fcntl
import os
import select
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from journal._arguments import to_line
from journal.engine.tape import TapeSink
from journal.errors import OutputLost
from journal.events import codec
from journal.events.streams import StreamDelivered, StreamOpened, TargetKind

OUTBOX_SIZE_MAX = 1 << 20
STDIN, STDOUT, STDERR = 0, 1, 2

_pack_delivered = codec.make_packer(StreamDelivered)


class Durability(Enum):
    """Time from which effects outside the guest are allowed."""

    #: After the kernel has the events. The journal is synchronized only at the end.
    NONE = "none"
    #: After the kernel has the events. The journal is synchronized once a second.
    INTERVAL = "interval"
    #: After the events survive a power loss.
    OUTPUT = "output"


class InFlightPolicy(Enum):
    """Treatment of the one write to a pipe or terminal that a crash left in doubt."""

    #: Deliver the write again. The reader may receive it twice.
    REPEAT = "repeat"
    #: Do not deliver the write. The reader may never receive it.
    DROP = "drop"


OutputCallback = Callable[[int, bytes], object]
"""Function that receives the number of a stream, 1 or 2, and bytes that the guest wrote to it."""


class OutboxWriter(TapeSink, Protocol):
    """Methods of the journal writer that an outbox needs."""

    def flush(self) -> None:
        """Pass all appended events to the kernel."""


@dataclass(slots=True)
class OutputTarget:
    """A target of one or more output streams.

    ``base`` is the offset of the first byte of the output in a regular file. ``delivered_size``
    counts the bytes of the recorded output that the target holds and need not receive again.
    ``is_writable`` is false for a descriptor that was opened only for reading. A target of the kind
    ``CAPTURED`` passes the output to ``callback``, if it has one, and else keeps it in memory.
    """

    kind: TargetKind
    fd: int = -1
    append: bool = False
    base: int = 0
    device: int = 0
    inode: int = 0
    delivered_size: int = 0
    captured: bytearray = field(default_factory=bytearray)
    is_writable: bool = True
    callback: Callable[[bytes], object] | None = None

    @classmethod
    def of_descriptor(cls, fd: int) -> "OutputTarget":
        """Return the target behind an open descriptor of this process."""
        status, flags = os.fstat(fd), fcntl.fcntl(fd, fcntl.F_GETFL)
        if stat.S_ISREG(status.st_mode):
            append = bool(flags & os.O_APPEND)
            base = status.st_size if append else os.lseek(fd, 0, os.SEEK_CUR)
            kind = TargetKind.REGULAR
        else:
            append, base = False, 0
            kind = _target_kind(fd, status.st_mode)
        is_writable = flags & os.O_ACCMODE != os.O_RDONLY
        return cls(kind, fd, append, base, status.st_dev, status.st_ino, is_writable=is_writable)

    def make_opened_event(self, stream: int) -> StreamOpened:
        """Return the event that describes this target."""
        return StreamOpened(
            stream=stream,
            kind=self.kind,
            append=self.append,
            position=self.base,
            device=self.device,
            inode=self.inode,
        )

    @property
    def is_captured(self) -> bool:
        """Return whether the target keeps the output in memory."""
        return self.kind is TargetKind.CAPTURED and self.callback is None

    @property
    def may_block(self) -> bool:
        """Return whether a write to the descriptor may wait for a reader."""
        return self.kind not in (TargetKind.REGULAR, TargetKind.CAPTURED)

    @property
    def keeps_nothing(self) -> bool:
        """Return whether only the journal knows what the target has received."""
        return self.may_block or self.callback is not None

    def write(self, data: memoryview) -> int:
        """Write the first part of ``data`` and return its size; raise ``OutputLost``."""
        if self.callback is not None:
            return _call(self.callback, data)
        if self.kind is TargetKind.CAPTURED:
            self.captured += data
            return len(data)
        try:
            return os.write(self.fd, data[: select.PIPE_BUF] if self.may_block else data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise OutputLost(
                f"output could not be delivered: {error.strerror}; the journal contains it, "
                "and a resume delivers it",
                error.errno or 0,
            ) from error


def _call(callback: Callable[[bytes], object], data: memoryview) -> int:
    """Pass ``data`` to a function of the embedder; raise ``OutputLost`` if the function fails."""
    try:
        callback(bytes(data))
    except Exception as error:
        raise OutputLost(
            f"output could not be delivered: on_output raised {to_line(repr(error))}; the journal "
            "contains it, and a resume delivers it"
        ) from error
    return len(data)


def _target_kind(fd: int, mode: int) -> TargetKind:
    if os.isatty(fd):
        return TargetKind.TERMINAL
    return TargetKind.PIPE if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else TargetKind.OTHER


class Outbox:
    """Queue of outputs whose events are not yet safe.

    ``barrier`` makes the events safe. ``arm`` requests a call of :meth:`deliver` soon. ``wait``
    returns when a descriptor is writable; after an exception from ``wait``, a later session
    delivers the rest. ``has_reached_terminal`` says whether a terminal received output.
    """

    def __init__(
        self,
        output_targets: dict[int, OutputTarget],
        writer: OutboxWriter,
        barrier: Callable[[], None],
        arm: Callable[[], None],
        wait: Callable[[int], None],
    ) -> None:
        self._output_targets = output_targets
        self._writer = writer
        self._barrier, self._arm, self._wait = barrier, arm, wait
        self._waiting: list[tuple[int, int, bytes]] = []
        self._size = 0
        self.has_reached_terminal = False

    def is_writable(self, stream: int) -> bool:
        """Return whether the target of a stream accepts writes."""
        return self._output_targets[stream].is_writable

    def put(self, stream: int, offset: int, data: bytes) -> None:
        """Queue ``data``, which is at ``offset`` of the stream."""
        self._waiting.append((stream, offset + len(data), data))
        self._size += len(data)
        if self._size > OUTBOX_SIZE_MAX:
            self.deliver()
        elif len(self._waiting) == 1:
            self._arm()

    def requeue(self, stream: int, offset: int, data: bytes) -> None:
        """Queue the part of a recorded write that its target does not hold yet."""
        target = self._output_targets[stream]
        held_size = min(target.delivered_size, len(data))
        target.delivered_size -= held_size
        if held_size < len(data):
            self.put(stream, offset + held_size, data[held_size:])

    def deliver(self) -> None:
        """Make the events safe, then write all queued outputs in order."""
        if not self._waiting:
            return
        waiting, self._waiting, self._size = self._waiting, [], 0
        self._barrier()
        is_first = True
        for target, upto, data in self._join_writes(waiting):
            if not is_first and target.keeps_nothing:
                # The kernel must have the StreamDelivered event of the previous write before
                # this write begins. Otherwise a crash would leave two writes in doubt.
                self._writer.flush()
            self._write(target, upto, data)
            is_first = False

    def _write(self, target: OutputTarget, upto: dict[int, int], data: bytes) -> None:
        remaining = memoryview(data)
        if target.kind is TargetKind.TERMINAL:
            self.has_reached_terminal = True
        try:
            while remaining:
                if target.may_block and target.is_writable:
                    self._wait(target.fd)
                remaining = remaining[target.write(remaining) :]
        finally:
            if target.keeps_nothing or (not remaining and target.kind is TargetKind.REGULAR):
                for stream, offset in upto.items():
                    payload = _pack_delivered(stream, offset - len(remaining))
                    self._writer.append_frame(StreamDelivered.tag, payload)

    def _join_writes(
        self, waiting: list[tuple[int, int, bytes]]
    ) -> Iterable[tuple[OutputTarget, dict[int, int], bytes]]:
        """Yield the writes to make. Adjacent writes to the same regular file are joined."""
        target: OutputTarget | None = None
        upto: dict[int, int] = {}
        parts: list[bytes] = []
        for stream, offset, data in waiting:
            next_target = self._output_targets[stream]
            can_join = next_target is target and next_target.kind is TargetKind.REGULAR
            if target is not None and not can_join:
                yield target, upto, b"".join(parts)
                upto, parts = {}, []
            target = next_target
            upto[stream] = offset
            parts.append(data)
        if target is not None:
            yield target, upto, b"".join(parts)
