"""Reconciliation of output targets: how much of the recorded output was already delivered.

A regular file is compared with the output. For other targets, the ``StreamDelivered`` events record
the delivered size.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from journal.engine.wasi.stdio.outbox import STDERR, STDIN, STDOUT, InFlightPolicy, OutputTarget
from journal.events.streams import StreamDelivered, StreamOpened, TargetKind


@dataclass(slots=True)
class StreamHistory:
    """Recorded targets of one stream, each with the size that it held, and the delivered size."""

    targets: list[tuple[StreamOpened, int]] = field(default_factory=list)
    delivered_size: int = 0

    def find_last(self, target: OutputTarget) -> tuple[StreamOpened, int] | None:
        """Return the latest recorded target that is the same file, and the size that it held."""
        for event, size in reversed(self.targets):
            is_same_file = (event.device, event.inode) == (target.device, target.inode)
            if event.kind is TargetKind.REGULAR and is_same_file:
                return event, size
        return None


def read_stream_histories(
    events: Iterable[StreamOpened | StreamDelivered],
) -> dict[int, StreamHistory]:
    """Return the histories of the standard streams from their events in a journal, in order."""
    histories = {stream: StreamHistory() for stream in (STDIN, STDOUT, STDERR)}
    new_streams: set[int] = set()
    for event in events:
        history = histories[event.stream]
        if isinstance(event, StreamOpened):
            history.targets.append((event, 0))
            new_streams.add(event.stream)
            continue
        # The first StreamDelivered event of a session has the size that its target held then.
        if event.stream in new_streams:
            history.targets[-1] = (history.targets[-1][0], event.upto)
            new_streams.discard(event.stream)
        history.delivered_size = max(history.delivered_size, event.upto)
    return histories


def find_terminals(histories: dict[int, StreamHistory]) -> set[int]:
    """Return the streams that were terminals in the first session.

    A guest can query this and depend on it, so a replay reports the terminals of that session.
    """
    return {
        stream
        for stream, history in histories.items()
        if history.targets and history.targets[0][0].kind is TargetKind.TERMINAL
    }


_CHUNK_SIZE = 1 << 18

Writes = Callable[[], Iterable[tuple[int, bytes]]]


def reconcile_outputs(
    output_targets: dict[int, OutputTarget],
    histories: dict[int, StreamHistory],
    writes: Writes,
    in_flight: InFlightPolicy,
) -> dict[int, int]:
    """Determine how much of the recorded output each target holds.

    Sets ``delivered_size`` and ``base`` of each target. ``writes()`` returns the recorded
    ``(stream, data)`` in order. Returns the bytes of each stream that its target holds.
    """
    delivered_sizes = dict.fromkeys(output_targets, 0)
    for target in {id(target): target for target in output_targets.values()}.values():
        streams = {stream for stream, other in output_targets.items() if other is target}
        if target.kind is TargetKind.REGULAR:
            _reconcile_file(target, streams, histories, writes)
        elif target.keeps_nothing:
            (stream,) = streams
            target.delivered_size = histories[stream].delivered_size
            if in_flight is InFlightPolicy.DROP:
                target.delivered_size = _find_write_end(target.delivered_size, stream, writes())
        for stream, size in _split_by_stream(target.delivered_size, streams, writes()):
            delivered_sizes[stream] += size
    return delivered_sizes


def _join_chunks(output: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in larger pieces, to compare a file with few reads."""
    parts: list[bytes] = []
    size = 0
    for data in output:
        parts.append(data)
        size += len(data)
        if size >= _CHUNK_SIZE:
            yield b"".join(parts)
            parts, size = [], 0
    yield b"".join(parts)


def _common_prefix_size(a: bytes, b: bytes) -> int:
    """Return the length of the common prefix of ``a`` and ``b``."""
    size = min(len(a), len(b))
    if a[:size] == b[:size]:
        return size
    return next(index for index in range(size) if a[index] != b[index])


def _split_by_stream(
    size: int, streams: set[int], writes: Iterable[tuple[int, bytes]]
) -> Iterable[tuple[int, int]]:
    """Yield ``(stream, size)`` of the parts of the first ``size`` bytes that ``streams`` wrote."""
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


def _reconcile_file(
    target: OutputTarget, streams: set[int], histories: dict[int, StreamHistory], writes: Writes
) -> None:
    size = os.fstat(target.fd).st_size
    output = (data for stream, data in writes() if stream in streams)
    last_targets = [histories[stream].find_last(target) for stream in sorted(streams)]
    same_file = [last for last in last_targets if last is not None]
    if same_file and same_file[0][0].position <= size:
        target.base = same_file[0][0].position
        floor = sum(held_size for _, held_size in same_file)
        target.delivered_size = _count_matching(target, output, floor)
    else:
        bases = [
            event.position
            for stream in sorted(streams)
            for event, _ in histories[stream].targets
            if event.kind is TargetKind.REGULAR
        ]
        candidate = OutputTarget(target.kind, target.fd, base=bases[-1] if bases else size)
        held_size = size - candidate.base
        if held_size > 0 and _count_matching(candidate, output, 0) == held_size:
            target.base, target.delivered_size = candidate.base, held_size
    if target.delivered_size:
        # The next session relies on these bytes, so a power loss in this session must not lose
        # them.
        os.fdatasync(target.fd)
    position = size if target.append else os.lseek(target.fd, 0, os.SEEK_CUR)
    if position > target.base + target.delivered_size:
        # Another process has written after our output and may share the file position, so the
        # output continues there.
        target.base = position - target.delivered_size
    elif not target.append:
        os.lseek(target.fd, target.base + target.delivered_size, os.SEEK_SET)


def _count_matching(target: OutputTarget, output: Iterable[bytes], floor: int) -> int:
    """Return the count of bytes of ``output`` in the file; trust the first ``floor`` bytes."""
    try:
        fd = os.open(f"/proc/self/fd/{target.fd}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return min(max(os.fstat(target.fd).st_size - target.base, 0), sum(map(len, output)))
    try:
        offset = 0
        for data in _join_chunks(output):
            end = offset + len(data)
            if end > floor:
                start = max(offset, floor)
                expected = data[start - offset :]
                actual = os.pread(fd, len(expected), target.base + start)
                if actual != expected:
                    return start + _common_prefix_size(actual, expected)
            offset = end
        return offset
    finally:
        os.close(fd)


def _find_write_end(offset: int, stream: int, writes: Iterable[tuple[int, bytes]]) -> int:
    """Return the end of the write that contains ``offset`` or begins there."""
    end = 0
    for write_stream, data in writes:
        if write_stream == stream:
            end += len(data)
            if end > offset:
                return end
    return end


def make_stream_events(
    output_targets: dict[int, OutputTarget], delivered_sizes: dict[int, int]
) -> list[StreamOpened | StreamDelivered]:
    """Return the events that record the output targets of a session and their sizes."""
    events: list[StreamOpened | StreamDelivered] = []
    for stream, target in sorted(output_targets.items()):
        events.append(target.make_opened_event(stream))
        events.append(StreamDelivered(stream=stream, upto=delivered_sizes.get(stream, 0)))
    return events
