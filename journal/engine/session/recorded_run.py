"""Recorded run in a journal: its preamble, events, outputs, snapshots and result."""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from journal.engine.session import preamble, preamble_check
from journal.engine.session.resource_policy import DEFAULT_POLICY, ResourcePolicy
from journal.engine.session.run_result import ExitKind, RunResult
from journal.engine.snapshot.rebuild import REBUILD_TAGS
from journal.engine.tape import Batch
from journal.engine.wasi.stdio.delivery import make_stream_events, read_stream_histories
from journal.engine.wasi.stdio.outbox import STDIN, Outbox, OutputTarget
from journal.engine.wasi.stdio.stdin import Interrupter
from journal.errors import JournalError
from journal.events import codec, tag_sets
from journal.events.core import ProcessExit
from journal.events.definition import Event
from journal.events.process import ProcessTrap
from journal.events.processes import ProcessReplaced, StreamPassed
from journal.events.streams import StreamDelivered, StreamOpened, StreamWrite
from journal.format.block import Block
from journal.format.frame import Frame
from journal.log.reader import Reader
from journal.log.writer import Writer
from journal.rewrite.progress import ProgressCallback
from journal.snapshots.catalog import list_snapshots

LINE_SIZE_MAX = 4096
"""Largest size of an unfinished line of output that is shown again, in bytes."""

REBUILD_CACHE_SIZE_MAX = 8 << 20
"""Size limit of the cached blocks that rebuild files and descriptors, in bytes."""

REPLAY_PHASE = "executing again up to the end of the journal"
"""Name of the phase in which the guest repeats its recorded run."""

_NOT_REBUILT = tag_sets.KNOWN - REBUILD_TAGS
WRITE_TAGS = frozenset((StreamWrite.tag, StreamPassed.tag))
"""Kinds with output to a standard stream: of the guest, or passed on for another process."""

_unpack_write = codec.make_late_unpacker(StreamWrite)
_unpack_passed = codec.make_late_unpacker(StreamPassed)


def unpack_output(frame: Frame) -> tuple[int, int, bytes]:
    """Return the stream, the offset and the bytes of an event of ``WRITE_TAGS``."""
    if frame.tag == StreamPassed.tag:
        stream, offset, _, data = _unpack_passed(frame.payload, frame.offset)
    else:
        stream, offset, data = _unpack_write(frame.payload, frame.offset)
    return stream, offset, data


class RecordedRun:
    """The recorded part of a run that is to be resumed or verified.

    Raises ``NotResumable`` for a journal without a process, and ``ResourceRefused`` for one that
    exceeds ``policy``.
    """

    def __init__(
        self, path: Path, until: int | None = None, policy: ResourcePolicy = DEFAULT_POLICY
    ) -> None:
        self.reader, self.policy = Reader(path), policy
        self._rebuild_blocks: list[Block] | None = []
        self._rebuild_size = 0
        self._until = until  # Events that are appended later are not replayed.
        self.result: RunResult | None = None
        with ExitStack() as stack:
            stack.callback(self.reader.close)
            self.identity, self.first_seq = preamble.read(self.reader.blocks(), policy)
            self.histories = read_stream_histories(self._read_stream_events())
            self.snapshots = list(list_snapshots(self.reader, count_pages=False))
            stack.pop_all()  # Close the reader only after an error.

    def _read_stream_events(self) -> Iterator[StreamOpened | StreamDelivered]:
        """Yield the checked events of the standard streams.

        The same pass sets ``result`` if the program has ended, and caches the blocks that
        rebuild files and descriptors.
        """
        resume_tags = preamble.RESUME_TAGS
        for block in self.reader.blocks(tags=resume_tags | REBUILD_TAGS):
            self._cache_block(block)
            for index in block.select(resume_tags):
                event = codec.decode(block.tags[index], block.payload(index), block.offset)
                if isinstance(event, StreamOpened):
                    preamble_check.check_opened(event)
                    yield event
                elif isinstance(event, StreamDelivered):
                    preamble_check.check_stream(event.stream)
                    preamble_check.check_offset(event.stream, event.upto)
                    yield event
                elif not isinstance(event, ProcessReplaced):  # That process has not ended.
                    self.result = _to_run_result(event)

    def _cache_block(self, block: Block) -> None:
        """Cache a block that rebuilds files and descriptors, unless the cache is full."""
        if self._rebuild_blocks is None or _NOT_REBUILT.issuperset(block.tags):
            return
        self._rebuild_blocks.append(block)
        self._rebuild_size += block.header.payload_raw_size
        if self._rebuild_size > REBUILD_CACHE_SIZE_MAX:
            self._rebuild_blocks = None  # The blocks are read again if they are needed.

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.reader.close()

    def batches(
        self, start: int, tags: frozenset[int] | None = None, until: int | None = None
    ) -> Iterator[Batch]:
        """Yield the events from sequence number ``start`` to before ``until``.

        With ``tags``, only blocks that contain these kinds or unknown kinds are yielded, as
        whole blocks.
        """
        until = self._until if until is None else until
        if until is not None and start >= until:
            return
        other_tags = frozenset() if tags is None else tag_sets.KNOWN - tags
        for block in self._blocks(start, tags):
            if until is not None and block.first_seq >= until:
                return
            if other_tags.issuperset(block.tags):
                # The block matched only because another kind has the same bit in its bitmap. The
                # block is skipped, because unpacking it takes long.
                continue
            part = slice(
                bisect_left(block.seqs, start),
                None if until is None else bisect_left(block.seqs, until),
            )
            yield Batch(
                block.seqs[part], block.tags[part], block.payloads()[part], block.times[part]
            )

    def _blocks(self, start: int, tags: frozenset[int] | None) -> Iterable[Block]:
        if tags != REBUILD_TAGS or self._rebuild_blocks is None:
            return self.reader.blocks(start, tags=tags)
        return [block for block in self._rebuild_blocks if block.last_seq >= start]

    @property
    def end_seq(self) -> int:
        """Return the sequence number after the last event to replay."""
        return self.reader.summary().last_seq + 1 if self._until is None else self._until

    def writes(self, upto: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Yield ``(stream, data)`` of the output before event ``upto``."""
        for frame in self.reader.frames(stop=upto, tags=WRITE_TAGS):
            stream, _, data = unpack_output(frame)
            if stream == STDIN and frame.tag == StreamPassed.tag:
                continue
            preamble_check.check_stream(stream)
            yield stream, data

    def read_unfinished_line(self, streams: Collection[int]) -> bytes:
        """Return the recorded output to ``streams`` after its last newline.

        Empty if that has more than ``LINE_SIZE_MAX`` bytes, or cannot be read.
        """
        line = b""
        last_seq = None if self._until is None else self._until - 1
        with suppress(JournalError):
            for frame in self.reader.backward(last_seq, tags=WRITE_TAGS):
                stream, _, data = unpack_output(frame)
                if stream in streams:
                    end: bytes
                    _, newline, end = data.rpartition(b"\n")
                    line = end + line
                    if newline:
                        return line
                    if len(line) > LINE_SIZE_MAX:
                        break
            else:
                return line
        return b""

    def has_effects_after(self, seq: int) -> bool:
        """Return whether the guest had any effect after event ``seq``."""
        effects = self.reader.frames(seq + 1, tags=tag_sets.KNOWN - tag_sets.RECORDING)
        return next(effects, None) is not None


def report_replay(
    recording: RecordedRun, first_seq: int, report: ProgressCallback, until: int | None = None
) -> Iterator[Batch]:
    """Yield the events from ``first_seq`` to before ``until`` for a replay, and report each batch.

    The phase ends before the guest continues live.
    """
    end = recording.end_seq if until is None else until
    size = max(1, end - first_seq)
    for batch in recording.batches(first_seq, until=until):
        if batch.seqs:
            report(REPLAY_PHASE, min(batch.seqs[0] - first_seq, size - 1), size)
        yield batch
    report(REPLAY_PHASE, size, size)


def queue_undelivered(
    recording: RecordedRun, upto: int, outbox: Outbox, output_targets: dict[int, OutputTarget]
) -> None:
    """Queue the output before event ``upto`` that its targets do not hold."""
    positions = dict.fromkeys(output_targets, 0)
    for stream, data in recording.writes(upto):
        outbox.requeue(stream, positions[stream], data)
        positions[stream] += len(data)


def _to_run_result(event: Event) -> RunResult:
    if isinstance(event, ProcessTrap):
        return RunResult(ExitKind.TRAPPED, None, event.kind, event.message)
    assert isinstance(event, ProcessExit), "the reader selects these two kinds"
    return RunResult(ExitKind.EXITED, (event.exit_code or 0) & 0xFFFFFFFF)


def deliver_remaining(
    writer: Writer,
    output_targets: dict[int, OutputTarget],
    delivered_sizes: dict[int, int],
    writes: Iterator[tuple[int, bytes]],
    interrupter: Interrupter,
) -> None:
    """Deliver the output of an ended program that its targets do not hold."""
    outbox = Outbox(output_targets, writer, writer.sync, lambda: None, interrupter.wait_writable)
    positions = dict.fromkeys(output_targets, 0)
    is_opened = False
    for stream, data in writes:
        is_undelivered = output_targets[stream].delivered_size < len(data)
        if is_undelivered and not is_opened and not output_targets[stream].is_captured:
            is_opened = True
            for event in make_stream_events(output_targets, delivered_sizes):
                writer.append(event)
        outbox.requeue(stream, positions[stream], data)
        positions[stream] += len(data)
    outbox.deliver()
