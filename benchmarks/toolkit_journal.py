"""Synthetic journal for the toolkit benchmarks: a service that writes files, with memory snapshots.

The library writes the journal from a fixed seed; no guest runs. A job reads a request and the
clock, writes a file under a temporary name, through two descriptors, and renames it over one of
few; some jobs also write into a file of records, and into a log that is rotated.
"""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks import log_events
from journal import Event, Writer
from journal.events import codec, descriptors, inputs, paths, process, snapshots, streams, threads
from journal.events.memory import PAGE_SIZE, MemoryPages
from journal.format import block_encoder
from journal.format.block import build_block
from journal.format.columns import BLOCK_SIZE_TARGET, COLUMNS_SIZE_PER_EVENT_MAX, Frames
from journal.log import CommitPolicy
from journal.pages.encoding import EVENT_PAGES_MAX

EVENTS_EACH = 32
"""Approximate number of events of one job."""
MEMORY_PAGES = 64 << 20 >> 12
_MODULE = b"no module at all"
_CODE = hashlib.sha256(_MODULE).digest()
_START = 1_700_000_000_000_000
_ROOT, _LOG, _RECORDS, _FILE, _COPY = 3, 4, 5, 6, 7
_SLOTS, _RECORDS_COUNT, _RECORD_SIZE, _ROTATED = 512, 1 << 12, 128, 4096
_WRITE = struct.Struct("<IQBI").pack
_WRITE_TAG = descriptors.FileDescriptorWrite.tag

_WORDS = b"asked done failed file from log name of the to took went when worker written".split()


class Size(NamedTuple):
    """Size of a journal: events other than pages, pages, and the snapshots that share the pages."""

    events: int
    pages: int
    snapshots: int

    def scale(self, share: float) -> Size:
        """Return a smaller size, with fewer snapshots of the same size."""
        count = max(2, round(self.snapshots * share))
        pages = self.pages * count // self.snapshots
        return Size(max(EVENTS_EACH, int(self.events * share)), pages, count)


FULL_SIZE = Size(events=10_000_000, pages=(2 << 30) // PAGE_SIZE, snapshots=100)


class JournalContents(NamedTuple):
    """Contents of a journal: events, bytes of their payloads, and bytes of its file."""

    events: int
    raw_size: int
    size: int


def make(path: Path, size: Size) -> JournalContents:
    """Write the journal to ``path``."""
    with Output(path) as output:
        for event in preamble():
            output.put(event.tag, codec.encode(event))
        job, pages = _Job(), _Pages(size)
        jobs = max(1, size.events // EVENTS_EACH)
        snapshot_count = 0
        for number in range(jobs):
            for tag, payload in job.events(number):
                output.put(tag, payload)
            while (
                snapshot_count < size.snapshots
                and (number + 1) * size.snapshots >= (snapshot_count + 1) * jobs
            ):
                for event in pages.snapshot(snapshot_count):
                    output.put(event.tag, codec.encode(event))
                snapshot_count += 1
        # Compaction keeps all events after the last snapshot.
        for tag, payload in job.events(jobs):
            output.put(tag, payload)
    return JournalContents(output.events, output.raw_size, path.stat().st_size)


class Output:
    """Output in blocks of the usual size, with a time for each event; a context manager."""

    def __init__(self, path: Path) -> None:
        self.events = self.raw_size = 0
        self._writer = Writer(path, commit=CommitPolicy.NONE)
        self._compressor = block_encoder.make_compressor()
        self._tags: list[int] = []
        self._payloads: list[bytes] = []
        self._space_left = BLOCK_SIZE_TARGET

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._writer.close()

    def put(self, tag: int, payload: bytes) -> None:
        """Append an event."""
        self._tags.append(tag)
        self._payloads.append(payload)
        self._space_left -= len(payload) + COLUMNS_SIZE_PER_EVENT_MAX
        if self._space_left <= 0:
            self._flush()

    def _flush(self) -> None:
        count, first = len(self._tags), self.events
        if not count:
            return
        times = [_START + 7 * seq for seq in range(first, first + count)]
        frames = Frames(self._tags, self._payloads, times)
        self._writer.append_block(
            build_block(frames, range(first, first + count), self._compressor)
        )
        self.events += count
        self.raw_size += sum(map(len, self._payloads))
        self._tags, self._payloads, self._space_left = [], [], BLOCK_SIZE_TARGET


def preamble() -> Iterator[Event]:
    """Return the preamble of a process journal, with its files already open."""
    yield process.ProcessStart(
        module_hash=hashlib.sha256(_MODULE).digest(),
        module_size=len(_MODULE),
        embedded=True,
        level=process.RecordingLevel.FULL,
        host_revision=1,
        realtime=_START * 1000,
        module_path="service.wasm",
        arguments=(b"service",),
        environment=(),
        engine="",
        engine_version="",
        journal_version="",
        platform="",
        configuration=(),
    )
    yield process.ModulePart(offset=0, data=_MODULE)
    yield process.InstrumentedPart(offset=0, data=_MODULE)
    yield process.Mount(fd=_ROOT, kind=process.MountKind.MEMORY, guest="/", host="")
    yield process.SessionStart(
        realtime=_START * 1000, monotonic=0, engine_version="", journal_version="", platform=""
    )
    yield streams.StreamOpened(
        stream=1, kind=streams.TargetKind.PIPE, append=False, position=0, device=0, inode=0
    )
    yield paths.CreateDirectory(fd=_ROOT, path="spool")
    yield _make_open_event(_LOG, "log")
    yield _make_open_event(_RECORDS, "records")


def _make_open_event(fd: int, path: str) -> Event:
    return descriptors.OpenFileDescriptor(
        fd=fd,
        dirfd=_ROOT,
        dirflags=1,
        o_flags=int(paths.OpenFlags.CREATE),
        fs_flags=0,
        fs_rights_base=66,
        fs_rights_inheriting=0,
        path=path,
    )


def _encode(event: Event) -> tuple[int, bytes]:
    return event.tag, codec.encode(event)


class _Job:
    """Generator of the events of successive jobs."""

    def __init__(self) -> None:
        self._generator = random.Random(2)
        lines = [
            b"line %09d: " % (7919 * n) + b" ".join(self._generator.choices(_WORDS, k=24))
            for n in range(512)
        ]
        self._lines = [line[: 24 + n % 72] for n, line in enumerate(lines)]
        self._log_size = 0
        self._output_size = 0
        self._fixed = {
            "dup": _encode(descriptors.DuplicateFileDescriptor(original_fd=_FILE, copied_fd=_COPY)),
            "close": _encode(descriptors.CloseFileDescriptor(fd=_FILE)),
            "close copy": _encode(descriptors.CloseFileDescriptor(fd=_COPY)),
            "close log": _encode(descriptors.CloseFileDescriptor(fd=_LOG)),
            "open log": _encode(_make_open_event(_LOG, "log")),
            "rotate": _encode(
                paths.PathRename(old_fd=_ROOT, new_fd=_ROOT, old_path="log", new_path="log.old")
            ),
        }

    def events(self, number: int) -> Iterator[tuple[int, bytes]]:
        """Yield the events of job ``number``."""
        fixed, generator, now = self._fixed, self._generator, number * 200_000
        yield _encode(inputs.ClockRead(clock=1, time=now))
        yield _encode(inputs.StreamRead(stream=0, offset=40 * number, data=b"%040d" % number))
        yield _encode(inputs.RandomBytes(data=generator.randbytes(16)))
        yield _encode(_make_open_event(_FILE, f"spool/{number}.tmp"))
        offset = 0
        for at in range(12):
            offset += yield from self._line(_FILE, offset)
            if at % 4 == 3:
                yield _encode(inputs.ClockRead(clock=1, time=now + 1000 * at))
        yield fixed["dup"]
        for _ in range(3):
            offset += yield from self._line(_COPY, offset)
        yield fixed["close copy"]
        yield fixed["close"]
        rename = paths.PathRename(
            old_fd=_ROOT,
            new_fd=_ROOT,
            old_path=f"spool/{number}.tmp",
            new_path=f"spool/{number % _SLOTS}",
        )
        yield _encode(rename)
        for _ in range(2):
            self._log_size += yield from self._line(_LOG, self._log_size)
        for _ in range(2):
            at = generator.randrange(_RECORDS_COUNT) * _RECORD_SIZE
            data = (b"%08d" % number) * (_RECORD_SIZE // 8)
            yield _WRITE_TAG, _WRITE(_RECORDS, at, 0, _RECORD_SIZE) + data
        yield _encode(inputs.ClockRead(clock=0, time=_START * 1000 + now))
        if number % 64 == 63:
            yield from self._print(b"%d jobs\n" % number)
        if number % _ROTATED == _ROTATED - 1:
            yield from (fixed["rotate"], fixed["close log"], fixed["open log"])
            self._log_size = 0

    def _line(self, fd: int, offset: int) -> Generator[tuple[int, bytes], None, int]:
        """Yield the events of one written line; return its size."""
        line = self._generator.choice(self._lines)
        yield _WRITE_TAG, _WRITE(fd, offset, 0, len(line)) + line
        return len(line)

    def _print(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        at = self._output_size
        self._output_size += len(data)
        yield _encode(streams.StreamWrite(stream=1, offset=at, data=data))
        yield _encode(streams.StreamDelivered(stream=1, upto=self._output_size))


class _Pages:
    """Generator of snapshots: the first has a quarter of the memory, the others share the rest."""

    def __init__(self, size: Size) -> None:
        self._generator = random.Random(3)
        pages = log_events.make_pages(2048).payloads
        self._pool = [page for page in dict.fromkeys(pages) if any(page)]
        self._first = min(MEMORY_PAGES // 4, size.pages // 2)
        self._pages_per_snapshot = min(
            MEMORY_PAGES, (size.pages - self._first) // max(1, size.snapshots - 1)
        )

    def snapshot(self, number: int) -> Iterator[Event]:
        """Yield the events of a snapshot."""
        return snapshot_of(number, self._parts(number), whole=not number)

    def _parts(self, number: int) -> Iterator[MemoryPages]:
        count = self._pages_per_snapshot if number else self._first
        numbers = sorted(self._generator.sample(range(MEMORY_PAGES), count))
        for start in range(0, count, EVENT_PAGES_MAX):
            part = numbers[start : start + EVENT_PAGES_MAX]
            yield MemoryPages(
                memory=0,
                size=MEMORY_PAGES * PAGE_SIZE,
                numbers=tuple(part),
                kinds=b"\1" * len(part),
                data=b"".join([self._page(number) for _ in part]),
            )

    def _page(self, number: int) -> bytes:
        """Return a page that resembles others of its kind, but equals none."""
        head = number.to_bytes(4, "little") + self._generator.randbytes(12)
        return head + self._generator.choice(self._pool)[16:]


def snapshot_of(number: int, pages: Iterable[MemoryPages], *, whole: bool) -> Iterator[Event]:
    """Yield the events of a snapshot with these pages."""
    yield snapshots.SafePoint(
        calls=1 + number,
        monotonic=number,
        code=_CODE,
        whole=whole,
        entry="_start",
        function="fd_write",
    )
    yield from pages
    yield threads.GlobalsSet(globals=((0, 0x7F, bytes(16)),))
    yield threads.SetThread(
        id=0,
        start_pointer=None,
        stack_upper=0,
        stack_lower=0,
        guard_size=0,
        stack_size=0,
        call_stack=bytes(256),
        memory_stack=b"",
        store_data=b"",
    )
    yield snapshots.DescriptorPositions(positions=(), free=())
    yield snapshots.Snapshot(when=_START * 1000 + number, trigger=snapshots.Trigger.EXPLICIT)
