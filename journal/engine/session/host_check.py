"""Comparison of the host with a recording, before its guest continues.

Files and descriptors are rebuilt from the events up to the end of the journal, without the guest.
"""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

from journal.engine.session.guest_descriptors import has_host_mounts, open_descriptors
from journal.engine.session.journal_writer import NullWriter
from journal.engine.session.recorded_run import RecordedRun
from journal.engine.session.resource_policy import check_limit
from journal.engine.session.stdin_check import compare_stdin
from journal.engine.snapshot.rebuild import REBUILD_TAGS, rebuild_last_state
from journal.engine.tape import Tape, TapeRow
from journal.engine.trust.access import HostAccess
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.descriptors import OpenFile
from journal.engine.wasi.filesystem.host_comparison import UnfinishedChange, compare_mount
from journal.engine.wasi.filesystem.host_files import HostFile
from journal.engine.wasi.filesystem.mounts import Mounts
from journal.engine.wasi.filesystem.reopening import RecordedTimes, raise_descriptor_limit
from journal.engine.wasi.stdio.stdin import BytesSource, StdinSource
from journal.errors import HostMismatch
from journal.events import codec, tag_sets
from journal.events.descriptors import (
    FileDescriptorSetSize,
    FileDescriptorSetTimes,
    FileDescriptorWrite,
    OpenFileDescriptor,
    OpenFileDescriptorWithFlags,
)
from journal.events.inputs import HostCall, HostResult
from journal.events.paths import PathSetTimes
from journal.events.process import RecordingLevel, SessionStart
from journal.log.reader import Reader
from journal.log.segment_files import SegmentFiles
from journal.log.summary import find_time_spans
from journal.wasi_abi import FILESTAT, FileStat

_SESSION_TAGS = frozenset((SessionStart.tag,))
#: Events of the guest and of its sessions. A resume that was refused appended other events.
_GUEST_TAGS = (tag_sets.KNOWN - tag_sets.RECORDING) | _SESSION_TAGS
_MICROSECOND = 1000

_CHANGES_OF_A_FILE = {
    kind.tag for kind in (FileDescriptorWrite, FileDescriptorSetSize, FileDescriptorSetTimes)
}
_CHANGES_OF_A_PATH = {
    kind.tag for kind in (OpenFileDescriptor, OpenFileDescriptorWithFlags, PathSetTimes)
}

_unpack_result = codec.make_unpacker(HostResult)


class HostDiffers(RuntimeWarning):
    """Warning: the host of a resumed guest differs from the recording."""


def report_differences(differences: tuple[str, ...], *, is_strict: bool) -> None:
    """Issue one :class:`HostDiffers` warning per difference; raise ``HostMismatch`` if strict."""
    if not differences:
        return
    if is_strict:
        reason = "; ".join(differences)
        raise HostMismatch(f"the host differs from the recording: {reason}", differences)
    for difference in differences:
        warnings.warn(difference, HostDiffers, stacklevel=6)


def read_times(recording: RecordedRun) -> RecordedTimes:
    """Return the times of the start, the last session and the last event of a recording.

    All of them are times of clocks that may have been set in between.
    """
    started = recording.identity.start.realtime
    session = started
    for frame in recording.reader.last(1, tags=_SESSION_TAGS):
        event = codec.decode(frame.tag, frame.payload, frame.offset)
        assert isinstance(event, SessionStart)
        session = event.realtime
    earlier = _find_earlier(recording) if has_host_mounts(recording.identity) else ()
    return RecordedTimes(started, session, _last_time(recording.reader), earlier)


def _find_earlier(recording: RecordedRun) -> tuple[tuple[int, int], ...]:
    """Return the spans of times, in ns, after which the clock was set back."""
    with closing(SegmentFiles(recording.reader.path)) as files:
        return tuple(
            (first * _MICROSECOND, (last + 1) * _MICROSECOND)
            for first, last in find_time_spans(files)[:-1]
        )


def _last_time(reader: Reader) -> int:
    """Return the time of the last event in ns, rounded up, because events have µs."""
    return max(
        ((frame.time + 1) * _MICROSECOND for frame in reader.last(1, tags=_GUEST_TAGS)), default=0
    )


def compare_host(
    recording: RecordedRun,
    source: StdinSource,
    access: HostAccess,
    times: RecordedTimes,
) -> tuple[str, ...]:
    """Return one sentence for each difference between the host and the recording.

    Compares standard input, mounted directories, and the files that the guest had open. Raises
    ``HostMismatch`` if the host refuses to open one of these files, ``OptionError`` for a directory
    that does not exist.
    """
    return (
        *compare_stdin(source, recording),
        *_compare_files(recording, access, times),
    )


def _compare_files(
    recording: RecordedRun, access: HostAccess, times: RecordedTimes
) -> Iterable[str]:
    identity = recording.identity
    if not has_host_mounts(identity):
        return ()
    nothing: Any = None  # No guest runs, and nothing uses its streams.
    context = CallContext(Tape(NullWriter()), nothing, nothing, [], [])
    mounts = open_descriptors(context, identity, BytesSource(b""), (), access.directories, times)
    try:
        mounts.check_hosts(access.named)
        unfinished = None
        # Without the results of its calls, the files that a guest had open cannot be rebuilt.
        if identity.start.level is RecordingLevel.FULL:
            batches = recording.batches(recording.first_seq, REBUILD_TAGS)
            row = rebuild_last_state(context, batches, _note_size)
            unfinished = None if row is None else _find_unfinished(context, row)
        count = sum(len(tree.open_handles) for tree in mounts.host_trees)
        check_limit("open files", count, recording.policy.open_files_max, "--max-open-files")
        return list(_compare_mounts(mounts, access, unfinished))
    finally:
        mounts.close()


def _note_size(context: CallContext, payload: bytes) -> None:
    """Note the size of a file that a recorded result tells."""
    call, fd, errno, value = _unpack_result(payload)
    descriptor = context.descriptors.used.get(fd)
    if errno or not isinstance(descriptor, OpenFile) or not isinstance(descriptor.file, HostFile):
        return
    size = descriptor.file.recorded_size
    if call == HostCall.STAT and len(value) == FILESTAT.size:
        size.set(FileStat(*FILESTAT.unpack(value)).size)
    elif call == HostCall.SIZE:
        size.set(int.from_bytes(value, "little"))
    elif call == HostCall.READ:
        size.extend(len(value))  # Its offset is not recorded.


def _find_unfinished(context: CallContext, row: TapeRow) -> UnfinishedChange | None:
    """Return the change of a file that the effect ``row`` without a result may have made."""
    _, tag, payload, _ = row
    if tag in _CHANGES_OF_A_PATH:
        return UnfinishedChange(None)
    if tag not in _CHANGES_OF_A_FILE:
        return None
    event = codec.decode(tag, payload)
    assert isinstance(event, FileDescriptorWrite | FileDescriptorSetSize | FileDescriptorSetTimes)
    descriptor = context.descriptors.used.get(event.fd)
    if isinstance(descriptor, OpenFile) and isinstance(descriptor.file, HostFile):
        return UnfinishedChange(
            descriptor.file, extends=not isinstance(event, FileDescriptorSetSize)
        )
    return None


def _compare_mounts(
    mounts: Mounts, access: HostAccess, unfinished: UnfinishedChange | None
) -> Iterator[str]:
    raise_descriptor_limit(sum(1 + len(tree.open_handles) for tree in mounts.host_trees))
    for tree in mounts.host_trees:
        yield from compare_mount(tree, unfinished, is_named=tree.guest in access.named)
