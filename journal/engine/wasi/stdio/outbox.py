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

from journal.engine.tape import TapeSink
from journal.errors import OutputLost
from journal.events import codec
from journal.events.streams import StreamDelivered, StreamOpened, TargetKind

OUTBOX_SIZE_MAX = 1 << 20
STDIN, STDOUT, STDERR = 0, 1, 2

_pack_delivered = codec.make_packer(StreamDelivered)


class Durability(Enum):
    """When what the guest does to the world may happen."""

    NONE = "none"  # after its events are with the kernel; never synced before the end
    INTERVAL = "interval"  # the same, and synced once a second
    OUTPUT = "output"  # after its events survive a power loss


class InFlightPolicy(Enum):
    """What becomes of the one write that a crash left in doubt."""

    REPEAT = "repeat"
    DROP = "drop"


class OutboxWriter(TapeSink, Protocol):
    """What an outbox needs of the journal's writer."""

    def flush(self) -> None:
        """Hand everything to the kernel."""


@dataclass(slots=True)
class OutputTarget:
    """A target of one or more streams.

    ``base`` is the offset of the first byte of the output in a regular file, ``delivered_size`` the
    count of bytes of the recorded output that the target has already.
    """

    kind: TargetKind
    fd: int = -1
    append: bool = False
    base: int = 0
    device: int = 0
    inode: int = 0
    delivered_size: int = 0
    captured: bytearray = field(default_factory=bytearray)

    @classmethod
    def of_descriptor(cls, fd: int) -> "OutputTarget":
        """The target behind an open descriptor of this process."""
        found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode):
            append = bool(_status_flags(fd) & os.O_APPEND)
            base = found.st_size if append else os.lseek(fd, 0, os.SEEK_CUR)
            kind = TargetKind.REGULAR
        else:
            append, base = False, 0
            kind = _target_kind(fd, found.st_mode)
        return cls(kind, fd, append, base, found.st_dev, found.st_ino)

    def make_opened_event(self, stream: int) -> StreamOpened:
        """The event that says what this target is."""
        return StreamOpened(
            stream=stream,
            kind=self.kind,
            append=self.append,
            position=self.base,
            device=self.device,
            inode=self.inode,
        )

    @property
    def may_block(self) -> bool:
        """Whether a write may have to wait for whoever reads it, and leaves no trace of itself."""
        return self.kind not in (TargetKind.REGULAR, TargetKind.CAPTURED)

    def write(self, data: memoryview) -> int:
        """Write some of ``data``, and say how much; raises ``OutputLost``."""
        if self.kind is TargetKind.CAPTURED:
            self.captured += data
            return len(data)
        try:
            return os.write(self.fd, data[: select.PIPE_BUF] if self.may_block else data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise OutputLost(
                f"the output could not be delivered: {error.strerror}; the journal has it, "
                "and a resume delivers it"
            ) from error


def _status_flags(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_GETFL)


def _target_kind(fd: int, mode: int) -> TargetKind:
    if os.isatty(fd):
        return TargetKind.TERMINAL
    return TargetKind.PIPE if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else TargetKind.OTHER


class Outbox:
    """Outputs that wait until their events are safe.

    ``barrier`` makes the events safe, ``arm`` asks for :meth:`deliver` to be called soon, ``wait``
    returns when a descriptor can be written; what it raises leaves the rest to a later session.
    """

    def __init__(
        self,
        output_targets: dict[int, OutputTarget],
        keeper: OutboxWriter,
        barrier: Callable[[], None],
        arm: Callable[[], None],
        wait: Callable[[int], None],
    ) -> None:
        self._output_targets = output_targets
        self._keeper = keeper
        self._barrier, self._arm, self._wait = barrier, arm, wait
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

    def requeue(self, stream: int, offset: int, data: bytes) -> None:
        """A write that the journal has: only what its target has not got yet leaves."""
        target = self._output_targets[stream]
        known = min(target.delivered_size, len(data))
        target.delivered_size -= known
        if known < len(data):
            self.put(stream, offset + known, data[known:])

    def deliver(self) -> None:
        """Make the events safe, then write everything that waits, in order."""
        if not self._waiting:
            return
        waiting, self._waiting, self._size = self._waiting, [], 0
        self._barrier()
        first = True
        for target, upto, data in self._joined(waiting):
            if target.may_block and not first:
                # The mark of the write before must be with the kernel before this one begins,
                # or a crash would leave two in doubt.
                self._keeper.flush()
            self._write(target, upto, data)
            first = False

    def _write(self, target: OutputTarget, upto: dict[int, int], data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                if target.may_block:
                    self._wait(target.fd)
                left = left[target.write(left) :]
        finally:
            if target.may_block or (not left and target.kind is TargetKind.REGULAR):
                for stream, offset in upto.items():
                    mark = _pack_delivered(stream, offset - len(left))
                    self._keeper.append_frame(StreamDelivered.tag, mark)

    def _joined(
        self, waiting: list[tuple[int, int, bytes]]
    ) -> Iterable[tuple[OutputTarget, dict[int, int], bytes]]:
        """What leaves in one write: neighbours that share a regular file are joined."""
        target: OutputTarget | None = None
        upto: dict[int, int] = {}
        parts: list[bytes] = []
        for stream, offset, data in waiting:
            next_target = self._output_targets[stream]
            joins = next_target is target and next_target.kind is TargetKind.REGULAR
            if target is not None and not joins:
                yield target, upto, b"".join(parts)
                upto, parts = {}, []
            target = next_target
            upto[stream] = offset
            parts.append(data)
        if target is not None:
            yield target, upto, b"".join(parts)
