"""Layers of the machine state: the state at a snapshot, and the state staged for the next one."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from journal.events import codec
from journal.events.snapshots import (
    DescriptorContents,
    DescriptorPositions,
    DirectoryListing,
    ResolvedNames,
    SafePoint,
    SignalState,
)
from journal.events.threads import GlobalsSet, SetThread
from journal.pages.encoding import compute_state_digest, encode_table, hash_page, update_hash_sum

_PART_SIZE = 64
"""Bytes that an entry of a listing, and a part of contents, counts besides its bytes."""


@dataclass(slots=True)
class MemoryState:
    """Size and pages of a memory; in the closed layer also the sum of the hashes of its pages.

    In the staged layer an empty page is a page of zeros. The closed layer has no zero pages.
    """

    size: int = 0
    pages: dict[int, bytes] = field(default_factory=dict)
    total: int = 0

    def close(self, index: int, staged: "MemoryState") -> None:
        """Apply the staged memory, and update the sum of the hashes of pages."""
        self.size = staged.size
        for number, page in staged.pages.items():
            before = self.pages.pop(number, b"")
            removed = hash_page(index, number, before) if before else 0
            added = hash_page(index, number, page) if page else 0
            self.total = update_hash_sum(self.total, added, removed)
            if page:
                self.pages[number] = page


@dataclass(slots=True)
class MachineLayer:
    """The closed or the staged state of a machine.

    Memories and tables are by index, threads, listings and contents by number. In the staged layer,
    None is a thread that ended, and a table is complete. ``digest_matches`` states whether the
    digest of the snapshot equals that of the closed state; None if the snapshot has no digest.
    """

    safe_point: SafePoint | None = None
    memories: dict[int, MemoryState] = field(default_factory=dict)
    globals: GlobalsSet | None = None
    tables: dict[int, "array[int]"] = field(default_factory=dict)
    threads: dict[int, SetThread | None] = field(default_factory=dict)
    positions: DescriptorPositions | None = None
    listings: dict[int, DirectoryListing] = field(default_factory=dict)
    contents: dict[int, DescriptorContents] = field(default_factory=dict)
    signals: SignalState | None = None
    names: ResolvedNames | None = None
    stacks_size: int = 0
    listings_size: int = 0
    contents_size: int = 0
    digest_matches: bool | None = None

    def set_thread(self, number: int, thread: SetThread | None) -> None:
        """Set a thread and its stacks."""
        self.stacks_size += stacks_size(thread) - stacks_size(self.threads.get(number))
        self.threads[number] = thread

    def set_listing(self, event: DirectoryListing) -> None:
        """Set the listing of a directory, and move it after all others."""
        self.listings_size += listing_size(event) - listing_size(self.listings.pop(event.fd, None))
        self.listings[event.fd] = event

    def set_contents(self, event: DescriptorContents) -> None:
        """Set the contents of an object inside the guest, and move them after all others."""
        self.contents_size += contents_size(event) - contents_size(
            self.contents.pop(event.fd, None)
        )
        self.contents[event.fd] = event

    def close(self, staged: "MachineLayer") -> None:
        """Apply the staged layer."""
        if staged.safe_point is not None:
            self._begin(staged.safe_point)
        for index, memory in staged.memories.items():
            self.memories.setdefault(index, MemoryState()).close(index, memory)
        for number, thread in staged.threads.items():
            self.set_thread(number, thread)
            if thread is None:
                del self.threads[number]
        self.tables |= staged.tables
        self.globals = staged.globals or self.globals
        self.positions = staged.positions or self.positions
        self.signals = staged.signals or self.signals
        self.names = staged.names or self.names
        for listing in staged.listings.values():
            self.set_listing(listing)
        for contents in staged.contents.values():
            self.set_contents(contents)

    def digest(self) -> bytes:
        """Return the digest of the closed state: see spec/format.md, "Snapshots"."""
        memories = sorted(self.memories.items())
        sums = [(index, memory.size, memory.total) for index, memory in memories]
        return compute_state_digest(sums, self._payloads())

    def _begin(self, safe_point: SafePoint) -> None:
        """Drop the state that the snapshot starting at ``safe_point`` contains again."""
        self.safe_point = safe_point
        self.threads, self.stacks_size = {}, 0
        self.globals = self.positions = self.signals = self.names = None
        self.listings, self.listings_size = {}, 0
        self.contents, self.contents_size = {}, 0
        if safe_point.whole:
            self.memories, self.tables = {}, {}

    def _payloads(self) -> Iterator[bytes]:
        """Yield the payloads in the digest other than memory, in the order of a snapshot."""
        if self.globals is not None:
            yield codec.encode(self.globals)
        for table, functions in sorted(self.tables.items()):
            yield from encode_table(table, functions)
        for _, thread in sorted(self.threads.items()):
            if thread is not None:
                yield codec.encode(thread)
        if self.positions is not None:
            yield codec.encode(self.positions)
        yield from map(codec.encode, self.listings.values())
        yield from map(codec.encode, self.contents.values())
        if self.signals is not None:
            yield codec.encode(self.signals)
        if self.names is not None:
            yield codec.encode(self.names)


def stacks_size(thread: SetThread | None) -> int:
    """Return the bytes of a thread's stacks."""
    if thread is None:
        return 0
    return len(thread.call_stack) + len(thread.memory_stack) + len(thread.store_data)


def listing_size(event: DirectoryListing | None) -> int:
    """Return the bytes that a listing counts."""
    if event is None:
        return 0
    return sum(map(len, event.entries)) + _PART_SIZE * (1 + len(event.entries))


def contents_size(event: DescriptorContents | None) -> int:
    """Return the bytes that contents of an object count."""
    if event is None:
        return 0
    return sum(map(len, event.parts)) + _PART_SIZE * (1 + len(event.parts))
