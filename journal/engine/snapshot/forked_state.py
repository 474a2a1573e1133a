"""State of a running guest at a snapshot, from which other guests start in the same process.

The guest is suspended while its memories are copied, once for all guests that start from them.
"""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

from journal.engine.memory.mapping import write_sparse
from journal.engine.snapshot.capture import (
    CapturedSnapshot,
    SnapshotCapture,
    SuspendPoint,
    TrackedMemory,
)
from journal.engine.snapshot.memory_image import ImageMemory, MemoryImage
from journal.engine.snapshot.restore import SnapshotParts, SnapshotRestorer
from journal.engine.tape import Batch
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.descriptors import OutputStream
from journal.events.snapshots import Trigger
from journal.snapshots.catalog import SnapshotInfo


@dataclass(frozen=True, slots=True)
class ForkedState:
    """Snapshot of a running guest, with a copy of its memories; a context manager.

    ``output_sizes`` has the bytes that the guest had written to each stream that is open.
    ``waited`` says for how long the guest had been in a wait that ends at a time, in nanoseconds,
    None if it was in none.
    """

    info: SnapshotInfo
    parts: SnapshotParts
    image: MemoryImage
    output_sizes: dict[int, int]
    waited: int | None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the copy. Guests that have started keep their memories."""
        self.image.close()

    def complete(self, captured: CapturedSnapshot) -> Self:
        """Return the state of a snapshot that has been completed."""
        return replace(self, info=replace(self.info, seq=captured.seq, digest=captured.digest))

    def make_start(self, history: Callable[[frozenset[int]], Iterable[Batch]]) -> SnapshotRestorer:
        """Return the start of one guest, whose files are rebuilt from ``history``."""
        image = replace(self.image, fd=os.dup(self.image.fd))
        return SnapshotRestorer(self.info, self.parts, image, history, is_last=True)


def copy_state(
    point: SuspendPoint,
    code: bytes,
    trigger: Trigger,
    capture: SnapshotCapture,
    context: CallContext,
) -> ForkedState:
    """Copy the state of a suspended guest, whose snapshot was written and is not complete."""
    parts = SnapshotParts()
    for event in capture.parts:
        parts.add_event(event)
    info = SnapshotInfo(
        seq=-1,
        time=time.time_ns() // 1000,
        trigger=trigger,
        first_seq=None,
        pages=0,
        size=0,
        digest=b"",
        whole=False,
        has_stacks=parts.stack is not None,
        code=code,
        entry=point.entry,
        function=point.function,
        calls=point.calls,
        monotonic=context.clocks.monotonic(),
        resumable=True,
        reason="",
    )
    started = context.wait_started
    streams = [each for each in context.descriptors.used.values() if type(each) is OutputStream]
    return ForkedState(
        info,
        parts,
        _copy_memories(capture.machine.memories),
        {stream.number: stream.position for stream in streams},
        None if started is None else time.monotonic_ns() - started,
    )


def _copy_memories(memories: Sequence[TrackedMemory]) -> MemoryImage:
    """Return an image in memory of the memories of a suspended guest."""
    fd = os.memfd_create("fork", os.MFD_CLOEXEC)
    try:
        copies, offset = [], 0
        for tracked in memories:
            memory = tracked.memory
            copies.append(ImageMemory(tracked.index, memory.size, offset, tracked.hash_sum))
            write_sparse(fd, offset, memory.view[: memory.size])
            offset += memory.size
        os.ftruncate(fd, offset)
        return MemoryImage(fd, tuple(copies))
    except BaseException:
        os.close(fd)
        raise
