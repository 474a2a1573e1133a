"""Online compaction: the writer's pause, and the waits of its appends."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator

from benchmarks.figures import Figure
from benchmarks.toolkit_journal import Size
from benchmarks.toolkit_work import open_journal
from journal import Writer, compact_online, encode
from journal.events.descriptors import FileDescriptorWrite
from journal.log import CommitPolicy

PAUSE_MILLISECONDS_MAX = 50.0
_EVENTS_A_SECOND = 20_000
_STEP_SECONDS = 0.002
_TAG = FileDescriptorWrite.tag
_PAYLOAD = encode(FileDescriptorWrite(fd=4, offset=0, data=bytes(64)))


class _SteadyAppender:
    """Thread that appends at an even rate, and stores the seconds of each append."""

    def __init__(self, writer: Writer) -> None:
        self.append_seconds: list[float] = []
        self._writer = writer
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> _SteadyAppender:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        count = round(_EVENTS_A_SECOND * _STEP_SECONDS)
        while not self._stop.wait(_STEP_SECONDS):
            begin = time.perf_counter()
            for _ in range(count):
                self._writer.append_frame(_TAG, _PAYLOAD)
            self.append_seconds.append(time.perf_counter() - begin)


def figures(rounds: int, size: Size) -> Iterator[Figure]:
    """Compact a copy of a large journal in each round, while events are appended to it."""
    pauses, longest, whole, quiet = list[float](), list[float](), list[float](), list[float]()
    with open_journal(size) as (path, contents):
        for _ in range(rounds + 1):
            live = path.with_name("live")
            shutil.copyfile(path, live)
            with Writer(live, commit=CommitPolicy.interval(1.0)) as writer:
                with _SteadyAppender(writer) as idle:
                    time.sleep(1.0)
                with _SteadyAppender(writer) as busy:
                    begin = time.perf_counter()
                    result = compact_online(writer)
                    whole.append(time.perf_counter() - begin)
            assert result.switchover is not None, result
            pauses.append(1e3 * result.switchover.pause_seconds)
            longest.append(1e3 * max(busy.append_seconds))
            quiet.append(1e3 * max(idle.append_seconds))
            live.unlink()
        words = f"{contents.events} events, {contents.raw_size / 1e6:.0f} MB"
    group = f"toolkit: {words}, compacted online with a writer of {_EVENTS_A_SECOND} events/s"
    for name, unit, values in (
        ("pause of the writer", "ms", pauses),
        ("longest append step", "ms", longest),
        ("longest append step without compaction", "ms", quiet),
        ("compaction", "s", whole),
    ):
        limit = PAUSE_MILLISECONDS_MAX if values is pauses else None
        yield Figure(group=group, name=name, unit=unit, values=tuple(values[1:]), limit=limit)
