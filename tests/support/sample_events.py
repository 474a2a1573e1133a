"""Constructors of single events whose unimportant fields have defaults."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import pytest

from journal import Frame
from journal.events import codec, descriptors, inputs, memory, paths, process, snapshots, threads
from journal.events.definition import Event
from journal.events.descriptors import Whence
from journal.events.inputs import HostCall
from journal.events.process import MountKind, RecordingLevel
from journal.events.snapshots import SafePoint, Trigger
from journal.events.threads import GlobalsSet
from journal.replay import ModelHost, ReplayError, ReplayLimits, play

MODULE = b"not even instrumented"
CODE = hashlib.sha256(MODULE).digest()

EXPLICIT = snapshots.Trigger.EXPLICIT


def frames_of_events(events: Iterable[Event]) -> list[Frame]:
    """Return frames as a reader yields them, a microsecond apart."""
    return [
        Frame(seq, event.tag, codec.encode(event), 1_000_000 + seq, 0)
        for seq, event in enumerate(events)
    ]


def open_path(fd: int, dirfd: int, path: str, o_flags: int, follow: int = 1) -> Event:
    """Return an open of a path with WASI's oflags."""
    return descriptors.OpenFileDescriptor(
        fd=fd,
        dirfd=dirfd,
        dirflags=follow,
        o_flags=o_flags,
        fs_flags=0,
        fs_rights_base=66,
        fs_rights_inheriting=0,
        path=path,
    )


def process_start(level: RecordingLevel = RecordingLevel.FULL) -> process.ProcessStart:
    return process.ProcessStart(
        module_hash=bytes(32),
        module_size=0,
        embedded=False,
        level=level,
        host_revision=1,
        realtime=0,
        module_path="",
        arguments=(b"guest", b"argument"),
        environment=(b"NAME=value",),
        engine="",
        engine_version="",
        journal_version="",
        platform="",
        configuration=(),
    )


def memory_mount(fd: int = 3, guest: str = "/") -> process.Mount:
    return process.Mount(fd=fd, kind=MountKind.MEMORY, guest=guest, host="")


def host_mount(fd: int = 3, guest: str = "/host") -> process.Mount:
    return process.Mount(fd=fd, kind=MountKind.HOST, guest=guest, host="/somewhere")


def host_result(call: HostCall, fd: int, value: bytes = b"", errno: int = 0) -> inputs.HostResult:
    return inputs.HostResult(call=call, fd=fd, errno=errno, value=value)


def snapshot() -> snapshots.Snapshot:
    return snapshots.Snapshot(when=1, trigger=EXPLICIT)


def region(start: int, data: bytes) -> memory.UpdateMemoryRegion:
    return memory.UpdateMemoryRegion(start=start, end=start + len(data), data=data)


def pages_event(size: int, memory_index: int = 0, **changes: Any) -> memory.MemoryPages:
    """Return a MemoryPages event, without pages unless ``changes`` add some."""
    fields: dict[str, Any] = {
        "memory": memory_index,
        "size": size,
        "numbers": (),
        "kinds": b"",
        "data": b"",
    }
    return memory.MemoryPages(**fields | changes)


def listing(fd: int, *entries: bytes, **changes: Any) -> snapshots.DirectoryListing:
    """Return a listing of a directory."""
    found = {"inodes": tuple(range(len(entries))), "kinds": b"\4" * len(entries)}
    return snapshots.DirectoryListing(fd=fd, entries=entries, **found | changes)


def thread(number: int, stack: bytes = b"") -> threads.SetThread:
    return threads.SetThread(
        id=number,
        start_pointer=None,
        stack_upper=0,
        stack_lower=0,
        guard_size=0,
        stack_size=0,
        call_stack=stack,
        memory_stack=b"",
        store_data=b"",
    )


def write(fd: int, offset: int, data: bytes) -> descriptors.FileDescriptorWrite:
    return descriptors.FileDescriptorWrite(fd=fd, offset=offset, data=data)


def seek(fd: int, offset: int, whence: Whence) -> descriptors.FileDescriptorSeek:
    return descriptors.FileDescriptorSeek(fd=fd, offset=offset, whence=whence)


def play_events(*events: Event, limits: ReplayLimits | None = None) -> ModelHost:
    host = ModelHost(limits)
    assert play(frames_of_events(events), host) == len(events)
    return host


def refusal(*events: Event, limits: ReplayLimits | None = None) -> str:
    """Return the refusal of the last event after a replay of the others."""
    host = play_events(*events[:-1], limits=limits)
    with pytest.raises(ReplayError) as caught:
        play(frames_of_events(events)[-1:], host)
    assert caught.value.seq == len(events) - 1
    assert len(str(caught.value).splitlines()) == 1
    return caught.value.reason


def close(fd: int) -> Event:
    return descriptors.CloseFileDescriptor(fd=fd)


def unlink(path: str, fd: int = 3) -> Event:
    return paths.UnlinkFile(fd=fd, path=path)


def mkdir(path: str, fd: int = 3) -> Event:
    return paths.CreateDirectory(fd=fd, path=path)


def whole_snapshot(*positions: tuple[int, int]) -> list[Event]:
    """Return a snapshot that a guest can resume from."""
    return [
        SafePoint(calls=1, monotonic=2, code=CODE, whole=True, entry="_start", function="f"),
        pages_event(1 << 16),
        GlobalsSet(globals=()),
        thread(0),
        snapshots.DescriptorPositions(positions=positions, free=()),
        snapshots.Snapshot(when=0, trigger=Trigger.EXPLICIT),
    ]
