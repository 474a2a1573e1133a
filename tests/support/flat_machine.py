"""Reference model of a machine with flat memories and tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from journal.events import codec, snapshots, threads
from journal.events.definition import Event
from journal.events.memory import PAGE_SIZE
from journal.pages.encoding import ZERO_PAGE, ChangedPage, encode_pages
from tests.support.page_histories import plain_digest
from tests.support.sample_events import thread

FULL_PAGE = b"\1" * PAGE_SIZE


def positions(*pairs: tuple[int, int]) -> snapshots.DescriptorPositions:
    return snapshots.DescriptorPositions(positions=pairs, free=())


@dataclass
class FlatMachine:
    """A machine with flat memories and tables, as the reference for the model."""

    memories: dict[int, bytearray] = field(default_factory=dict)
    tables: dict[int, list[int]] = field(default_factory=dict)
    values: int = 0
    stacks: bytes | None = None

    def copy(self) -> FlatMachine:
        memories = {index: bytearray(found) for index, found in self.memories.items()}
        tables = {index: list(found) for index, found in self.tables.items()}
        return FlatMachine(memories, tables, self.values, self.stacks)

    def pages(self, memory: int) -> dict[int, bytes]:
        flat = bytes(self.memories.get(memory, b""))
        return {n: flat[n * PAGE_SIZE : (n + 1) * PAGE_SIZE] for n in range(len(flat) // PAGE_SIZE)}

    @property
    def globals(self) -> threads.GlobalsSet:
        return threads.GlobalsSet(globals=((0, 0x7E, self.values.to_bytes(16, "little")),))

    def told(self, before: FlatMachine, *, whole: bool) -> Iterator[Event]:
        """Return the events between a safe point and its snapshot."""
        for index, flat in self.memories.items():
            old = {} if whole else before.pages(index)
            pages = [
                ChangedPage(number, page, old.get(number, ZERO_PAGE))
                for number, page in self.pages(index).items()
                if page != old.get(number, ZERO_PAGE)
            ]
            yield from encode_pages(index, len(flat), pages)
        yield self.globals
        for index, functions in self.tables.items():
            if whole or functions != before.tables.get(index):
                at = len(functions) // 2
                yield threads.TableSet(table=index, start=0, functions=tuple(functions[:at]))
                yield threads.TableSet(table=index, start=at, functions=tuple(functions[at:]))
        if self.stacks is not None:
            yield thread(0, self.stacks)
        yield positions((0, self.values))

    def digest(self) -> bytes:
        """Return the digest, computed as the spec describes."""
        payloads = [codec.encode(self.globals)]
        for index, functions in sorted(self.tables.items()):
            whole = threads.TableSet(table=index, start=0, functions=tuple(functions))
            payloads.append(codec.encode(whole))
        if self.stacks is not None:
            payloads.append(codec.encode(thread(0, self.stacks)))
        payloads.append(codec.encode(positions((0, self.values))))
        memories = [(index, bytes(flat)) for index, flat in sorted(self.memories.items())]
        return plain_digest(memories, payloads)
