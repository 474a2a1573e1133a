"""Taking a guest's stack away and putting it back: Binaryen's asyncify, from the host's side.

An instrumented function that is called back from its host in the state *unwinding* puts its locals
into a memory of its own and returns, and so do those that called it; in the state *rewinding* it
takes them out again and calls on, until the host is called where it was called before. Binaryen's
src/passes/Asyncify.cpp tells how.
"""

import struct
from enum import Enum

from journal.engine.seam import Instance, Memory
from journal.errors import EngineError

_HEAD = struct.Struct("<II")
_STACK_AT = 16
assert _HEAD.size <= _STACK_AT


class Motion(Enum):
    """What the stack does."""

    RUNNING = "running"
    UNWINDING = "unwinding"
    REWINDING = "rewinding"


class Stack:
    """The stack of one guest; ``memory`` is what asyncify has for it, and nothing else uses."""

    def __init__(self, instance: Instance, memory: Memory) -> None:
        self._instance, self._memory = instance, memory
        self.motion = Motion.RUNNING

    def unwind(self) -> None:
        """In a call of the guest: let the stack be put away when the call returns."""
        self._memory.write(0, _HEAD.pack(_STACK_AT, self._memory.size))
        self._instance.call("asyncify_start_unwind", 0)
        self.motion = Motion.UNWINDING

    def unwound(self) -> bytes:
        """When the guest has returned: its stack."""
        self._instance.call("asyncify_stop_unwind")
        self.motion = Motion.RUNNING
        end, _ = self._memory.unpack(_HEAD, 0)
        return self._memory.read(_STACK_AT, end - _STACK_AT)

    def rewind(self, stack: bytes) -> None:
        """Before the guest is called: let it go to where the stack was unwound.

        Raises EngineError for a stack that does not fit.
        """
        end = _STACK_AT + len(stack)
        if end > self._memory.size:
            raise EngineError(f"a stack of {len(stack)} bytes does not fit {self._memory.size}")
        self._memory.write(0, _HEAD.pack(end, self._memory.size))
        self._memory.write(_STACK_AT, stack)
        self._instance.call("asyncify_start_rewind", 0)
        self.motion = Motion.REWINDING

    def rewound(self) -> None:
        """In the call of the guest that the stack leads to: it is there.

        Raises EngineError where it is somewhere else: a function on the stack is called through a
        table, and the table has another in its place by now.
        """
        end, _ = self._memory.unpack(_HEAD, 0)
        if end != _STACK_AT:
            raise astray()
        self._instance.call("asyncify_stop_rewind")
        self.motion = Motion.RUNNING


def astray() -> EngineError:
    """What is said of a guest whose stack cannot be put back."""
    return EngineError(
        "the guest's stack does not lead to where it was: a function on it is no more where it was "
        "called through a table; a resume executes the guest again, and --stacks never keeps it so"
    )


def overflow() -> EngineError:
    """What is said of a guest whose stack is too large to be taken."""
    return EngineError(
        "the guest's stack is larger than what a snapshot can have of it; a resume goes on from "
        "the snapshot before, or executes the guest again"
    )
