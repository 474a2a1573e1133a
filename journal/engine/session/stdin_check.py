"""Comparison of standard input with the input that a recorded guest has read."""

import os
import stat
from collections.abc import Iterator

from journal.engine.session.recorded_run import RecordedRun
from journal.engine.wasi.stdio.outbox import STDIN
from journal.engine.wasi.stdio.stdin import FedSource, StdinSource
from journal.events import codec
from journal.events.inputs import StreamRead
from journal.events.processes import StreamPassed
from journal.events.snapshots import DescriptorPositions
from journal.events.streams import TargetKind
from journal.log.reader import Reader

#: Bytes before the position of the guest that are compared with the recording.
COMPARED_SIZE_MAX = 1024

_TAGS = frozenset((StreamRead.tag, StreamPassed.tag, DescriptorPositions.tag))


def compare_stdin(source: StdinSource, recording: RecordedRun) -> Iterator[str]:
    """Yield a sentence if ``source`` does not continue the input that the guest has read.

    An input that the embedder feeds is not compared.
    """
    if isinstance(source, FedSource):
        return
    size, last = read_consumed(recording.reader)
    if not size:
        return
    if source.is_rereadable:
        yield from _compare_bytes(source, size, last)
        return
    targets = recording.histories[STDIN].targets
    if targets and targets[-1][0].kind is TargetKind.REGULAR:
        yield (
            f"standard input is {_describe(source)}: the guest has read {size} bytes of a regular "
            "file, and goes on with the first byte of the new input"
        )


def _compare_bytes(source: StdinSource, size: int, last: bytes) -> Iterator[str]:
    compared_size = max(len(last), 1)
    try:
        found = source.read(size - compared_size, compared_size)
    except OverflowError:  # A forged journal has such an offset.
        found = b""
    except OSError as error:
        yield f"standard input cannot be read again: {error.strerror}"
        return
    if len(found) < compared_size:
        yield (
            f"standard input ends before byte {size}: the guest has read that far, "
            "and finds the end of the input"
        )
    elif last and found != last:
        yield (
            f"standard input is another file: its {len(last)} bytes before byte {size} are not "
            "those that the guest has read"
        )


def read_consumed(reader: Reader) -> tuple[int, bytes]:
    """Return how many bytes of standard input the guest has read, and the last of them.

    At most ``COMPARED_SIZE_MAX`` bytes are returned; fewer if the journal does not have them, as
    after a compaction.
    """
    positioned_size: int | None = None
    size: int | None = None
    parts: list[bytes] = []
    begin = 0
    for frame in reader.backward(tags=_TAGS):
        event = codec.decode(frame.tag, frame.payload, frame.offset)
        if isinstance(event, DescriptorPositions):
            if positioned_size is None:
                positioned_size = dict(event.positions).get(STDIN, 0)
            continue
        assert isinstance(event, StreamRead | StreamPassed)
        if event.stream != STDIN:
            continue
        if size is None:
            size = begin = event.offset + len(event.data)
        if event.offset + len(event.data) != begin:
            break  # A compaction dropped the events between.
        begin = event.offset
        parts.append(event.data)
        if size - begin >= COMPARED_SIZE_MAX:
            break
    if size is None:
        return positioned_size or 0, b""
    return size, b"".join(reversed(parts))[-COMPARED_SIZE_MAX:]


def _describe(source: StdinSource) -> str:
    """Return the kind of a source that cannot be read again."""
    mode = os.fstat(source.fileno()).st_mode
    if stat.S_ISFIFO(mode):
        return "a pipe"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a terminal" if os.isatty(source.fileno()) else "a device"
