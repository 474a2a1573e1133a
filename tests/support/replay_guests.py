"""Guests whose journals are replayed, and the call that records each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import journal
from journal import HostMount, MemoryMount
from journal.engine import FileCopy, RecordingLevel
from tests.support.programs import guest

LINES = b"".join(b"line %d\n" % number for number in range(8))


ORDERS = b"".join(b"order %d\n" % number for number in range(5))


Record = Callable[[Path, Path], journal.Recorder]


def worker(folder: Path, cache: Path) -> journal.Recorder:
    (folder / "empty").mkdir()
    return journal.record(
        guest("worker"),
        folder / "j",
        args=["worker", "/work", "8"],
        env={"NAME": "value"},
        copies=[FileCopy(str(folder / "empty"), "/work")],
        stdin=LINES,
        cache=cache,
    )


def worker_on_the_host(
    folder: Path, cache: Path, level: RecordingLevel = RecordingLevel.FULL
) -> journal.Recorder:
    (folder / "work").mkdir()
    return journal.record(
        guest("worker"),
        folder / "j",
        args=["worker", "/work", "8"],
        mounts=[MemoryMount("/"), HostMount(str(folder / "work"), "/work")],
        stdin=LINES,
        level=level,
        cache=cache,
    )


def families(folder: Path, cache: Path) -> journal.Recorder:
    (folder / "old").write_bytes(b"old content")
    (folder / "link").symlink_to("old")
    return journal.record(
        guest("families"),
        folder / "j",
        args=["families", "work", "fixed"],
        mounts=[MemoryMount("work"), MemoryMount("fixed")],
        copies=[FileCopy(str(folder / name), f"fixed/dir/{name}") for name in ("old", "link")],
        stdin=b"first line\nsecond line\n",
        cache=cache,
    )


def families_on_the_host(folder: Path, cache: Path) -> journal.Recorder:
    for name in ("work", "fixed"):
        (folder / name).mkdir()
    return journal.record(
        guest("families"),
        folder / "j",
        args=["families", "work", "fixed"],
        mounts=[HostMount(str(folder / name), name) for name in ("work", "fixed")],
        stdin=b"first line\nsecond line\n",
        cache=cache,
    )


def worker_without_inputs(folder: Path, cache: Path) -> journal.Recorder:
    return worker_on_the_host(folder, cache, RecordingLevel.STATE)


def simple(name: str, *args: str, stdin: bytes = b"") -> Record:
    def recorder(folder: Path, cache: Path) -> journal.Recorder:
        return journal.record(
            guest(name), folder / "j", args=[name, *args], stdin=stdin, cache=cache
        )

    return recorder


REPLAY_GUESTS: dict[str, Record] = {
    "worker": worker,
    "worker on the host": worker_on_the_host,
    "worker without inputs": worker_without_inputs,
    "families": families,
    "families on the host": families_on_the_host,
    "chatty": simple("chatty", "40"),
    "cat": simple("cat", "7", stdin=bytes(range(256))),
    "exit7": simple("exit7", "42"),
    "exit -1": simple("exit7", "4294967295"),
    "trap": simple("trap", "divide"),
    "faults": simple("faults"),
    "escape": simple("escape", "/"),
    "sleepy": simple("sleepy", "3", "1000"),
}
