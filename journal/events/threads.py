"""Events of threads, globals and tables."""

from typing import Annotated

import construct as cs

from journal.events.definition import Event, Group, Role, Staged, event
from journal.events.wire_types import (
    U32,
    U64,
    Flag,
    ListOf,
    MaybeI32,
    MaybeU64,
    MemoryBytes,
    Secret,
    TupleOf,
    U32s,
)

TABLE_NULL = 0xFFFF_FFFF
"""Value of an empty table element."""

GlobalValues = Annotated[
    tuple[tuple[int, int, bytes], ...],
    ListOf(TupleOf(cs.Int32ul, cs.Int8ul, cs.Bytes(16))),
    Secret.MEMORY,
]


@event(tag=3, group=Group.THREADS, role=Role.RECORDING, rule=Staged())
class SetThread(Event):
    """Stacks of one thread, unwound into memory at a host call, for the next snapshot.

    ``start_pointer`` is the argument of thread_spawn, None for the main thread. The ``stack_``
    fields are addresses and sizes in linear memory. ``call_stack`` is the data from which asyncify
    rewinds, ``memory_stack`` the bytes of the stack in memory, and ``store_data`` the thread's
    globals in a form of the writer (this library writes GlobalsSet instead).
    """

    id: U32
    start_pointer: MaybeU64
    stack_upper: U64
    stack_lower: U64
    guard_size: U64
    stack_size: U64
    is_64bit: Flag = False
    call_stack: MemoryBytes
    memory_stack: MemoryBytes
    store_data: MemoryBytes


@event(tag=4, group=Group.THREADS, role=Role.EFFECT, rule=Staged())
class CloseThread(Event):
    """A thread ended: it called thread_exit or returned. ``exit_code`` is None without a code."""

    id: U32
    exit_code: MaybeI32


@event(tag=140, group=Group.THREADS, role=Role.RECORDING, rule=Staged())
class GlobalsSet(Event):
    """Values of all mutable globals, for the next snapshot.

    Each entry has the index of a global in the module, its type (7f i32, 7e i64, 7d f32, 7c f64, 7b
    v128, as in a module's binary), and its bits in 16 bytes, little-endian, with zeros above.
    """

    globals: GlobalValues


@event(tag=141, group=Group.THREADS, role=Role.RECORDING, rule=Staged())
class TableSet(Event):
    """Elements of a table of functions, for the next snapshot.

    ``functions`` are function indices of the module, for the elements from index ``start``;
    0xffffffff is an empty element.
    """

    table: U32
    start: U32
    functions: U32s
