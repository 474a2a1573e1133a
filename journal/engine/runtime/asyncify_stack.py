"""Taking a guest's stack away and putting it back: Binaryen's asyncify, from the host's side.

An instrumented function that is called back from its host in the state *unwinding* puts its locals
into a memory of its own and returns, and so do those that called it; in the state *rewinding* it
takes them out again and calls on, until the host is called where it was called before. Binaryen's
src/passes/Asyncify.cpp tells how.
"""

import struct
from enum import Enum

from journal.engine.runtime.bindings import GuestMemory, Instance
from journal.errors import EngineError
from journal.events.wire_types import PAYLOAD_SIZE_MAX

_HEAD = struct.Struct("<II")
_STACK_AT = 16
assert _HEAD.size <= _STACK_AT

STACK_SIZE_MAX = PAYLOAD_SIZE_MAX - (1 << 10)
"""What one event can have of a stack: less than there is room for."""


class StackPhase(Enum):
    """What the stack does."""

    RUNNING = "running"
    UNWINDING = "unwinding"
    REWINDING = "rewinding"


class AsyncifyStack:
    """The stack of one guest; ``memory`` is what asyncify has for it, and nothing else uses."""

    def __init__(self, instance: Instance, memory: GuestMemory) -> None:
        self._instance, self._memory = instance, memory
        self.phase = StackPhase.RUNNING

    def unwind(self) -> None:
        """In a call of the guest: let the stack be put away when the call returns."""
        self._memory.write(0, _HEAD.pack(_STACK_AT, self._memory.size))
        self._instance.call("asyncify_start_unwind", 0)
        self.phase = StackPhase.UNWINDING

    def finish_unwind(self) -> bytes:
        """When the guest has returned: its stack; raises EngineError for one that is too large."""
        self._instance.call("asyncify_stop_unwind")
        self.phase = StackPhase.RUNNING
        end, _ = self._memory.unpack(_HEAD, 0)
        if end - _STACK_AT > STACK_SIZE_MAX:
            raise stack_overflow_error()
        return self._memory.read(_STACK_AT, end - _STACK_AT)

    def rewind(self, stack: bytes) -> None:
        """Before the guest is called: let it go to where the stack was finish_unwind.

        Raises EngineError for a stack that does not fit.
        """
        end = _STACK_AT + len(stack)
        if end > self._memory.size:
            raise EngineError(f"a stack of {len(stack)} bytes does not fit {self._memory.size}")
        self._memory.write(0, _HEAD.pack(end, self._memory.size))
        self._memory.write(_STACK_AT, stack)
        self._instance.call("asyncify_start_rewind", 0)
        self.phase = StackPhase.REWINDING

    def finish_rewind(self) -> bool:
        """In a call of the guest: whether all of the stack has led here, and it runs again."""
        end, _ = self._memory.unpack(_HEAD, 0)
        if end != _STACK_AT:
            return False
        self._instance.call("asyncify_stop_rewind")
        self.phase = StackPhase.RUNNING
        return True


def stack_mismatch_error(*, is_resumed: bool) -> EngineError:
    """What is said of a guest whose stack cannot be put back.

    A function on it is called through a table, which has another in its place by now; or it is of a
    snapshot, and was good when that was taken.
    """
    if is_resumed:
        return EngineError(
            "the guest's stack does not lead to where it was: the snapshot is damaged, or of "
            "another guest; --reexecute goes on without it"
        )
    return EngineError(
        "the guest's stack does not lead to where it was: a function on it is no more where it was "
        "called through a table; a resume executes the guest again, and --stacks never keeps it so"
    )


def stack_overflow_error() -> EngineError:
    """What is said of a guest whose stack is too large to be taken."""
    return EngineError(
        "the guest's stack is larger than what a snapshot can have of it; a resume goes on from "
        "the snapshot before, or executes the guest again"
    )
