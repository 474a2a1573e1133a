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
    MachineState,
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

CHANGED_PAGES_MAX = 1024
"""Pages that may have changed since a copy of the memories that is used again."""


@dataclass(frozen=True, slots=True)
class ForkedState:
    """Snapshot of a running guest, with a copy of its memories; a context manager.

    ``changes`` has the pages that changed since the copy was made, for an earlier fork.

    ``output_sizes`` has the bytes that the guest had written to each stream that is open.
    ``waited`` says for how long the guest had been in a wait that ends at a time, in nanoseconds,
    None if it was in none.
    """

    info: SnapshotInfo
    parts: SnapshotParts
    image: MemoryImage
    changes: dict[int, dict[int, bytes]]
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
        return SnapshotRestorer(
            self.info, self.parts, image, history, is_last=True, changes=self.changes
        )


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
        *_copy_memories(capture.machine),
        {stream.number: stream.position for stream in streams},
        None if started is None else time.monotonic_ns() - started,
    )


def _copy_memories(machine: MachineState) -> tuple[MemoryImage, dict[int, dict[int, bytes]]]:
    """Return a copy of the memories of a suspended guest, and the pages that changed since.

    A copy is used again as long as few pages have changed.
    """
    memories, copy = machine.memories, machine.copy
    if copy is None or not _is_usable(copy, memories):
        if copy is not None:
            machine.copy = None
            copy.close()
        machine.copy = copy = _make_copy(memories)
    changes = {
        tracked.index: {
            number: tracked.mirror.read(number) for number in tracked.changed_numbers or ()
        }
        for tracked in memories
    }
    sums = {tracked.index: tracked.hash_sum for tracked in memories}
    regions = tuple(each._replace(hash_sum=sums[each.memory_index]) for each in copy.memories)
    return MemoryImage(os.dup(copy.fd), regions), changes


def _is_usable(copy: MemoryImage, memories: Sequence[TrackedMemory]) -> bool:
    """Return whether the memories have the sizes of a copy, and few other pages."""
    count = sum(len(tracked.changed_numbers or ()) for tracked in memories)
    sizes = [tracked.memory.size for tracked in memories]
    return sizes == [region.size for region in copy.memories] and count <= CHANGED_PAGES_MAX


def _make_copy(memories: Sequence[TrackedMemory]) -> MemoryImage:
    """Return an image of the memories, of which no page has changed yet."""
    fd = os.memfd_create("fork", os.MFD_CLOEXEC)
    try:
        copies, offset = [], 0
        for tracked in memories:
            memory = tracked.memory
            copies.append(ImageMemory(tracked.index, memory.size, offset, tracked.hash_sum))
            write_sparse(fd, offset, memory.view[: memory.size])
            offset += memory.size
        os.ftruncate(fd, offset)
    except BaseException:
        os.close(fd)
        raise
    for tracked in memories:
        tracked.changed_numbers = set()
    return MemoryImage(fd, tuple(copies))
