"""Unwinding and rewinding of a guest's stack: the host's side of Binaryen's asyncify.

If the host sets the state *unwinding*, an instrumented function saves its locals to a separate
memory when a host call returns, and returns too; so do its callers. In the state *rewinding*, each
function restores its locals and repeats its call, until the guest reaches the same host call again.
Source: Binaryen's src/passes/Asyncify.cpp.
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
"""Largest stack that fits one event; the stack memory itself is larger."""


class StackPhase(Enum):
    """State of a guest's stack."""

    RUNNING = "running"
    UNWINDING = "unwinding"
    REWINDING = "rewinding"


class AsyncifyStack:
    """Stack of one guest; ``memory`` is the memory that only asyncify uses."""

    def __init__(self, instance: Instance, memory: GuestMemory) -> None:
        self._instance, self._memory = instance, memory
        self.phase = StackPhase.RUNNING

    def unwind(self) -> None:
        """Start unwinding when the current host call returns. Call only from a host function."""
        self._memory.write(0, _HEAD.pack(_STACK_AT, self._memory.size))
        self._instance.call("asyncify_start_unwind", 0)
        self.phase = StackPhase.UNWINDING

    def finish_unwind(self) -> bytes:
        """Return the saved stack after the guest has returned; raises EngineError if it is too
        large.
        """
        return self._memory.read(_STACK_AT, self.pause())

    def pause(self) -> int:
        """End the unwind after the guest has returned, and leave the stack in its memory.

        Returns the size of the stack; raises EngineError if it is too large.
        """
        self._instance.call("asyncify_stop_unwind")
        self.phase = StackPhase.RUNNING
        end, _ = self._memory.unpack(_HEAD, 0)
        size: int = end - _STACK_AT
        if size > STACK_SIZE_MAX:
            raise stack_overflow_error()
        return size

    def read_paused(self) -> bytes:
        """Return the stack that ``pause`` has left in its memory."""
        end, _ = self._memory.unpack(_HEAD, 0)
        return self._memory.read(_STACK_AT, end - _STACK_AT)

    def rewind_paused(self) -> None:
        """Prepare the next call of the guest to rewind the stack that ``pause`` has left."""
        self._instance.call("asyncify_start_rewind", 0)
        self.phase = StackPhase.REWINDING

    def rewind(self, stack: bytes) -> None:
        """Prepare the next call of the guest to rewind a saved stack.

        Raises EngineError for a stack that does not fit.
        """
        end = _STACK_AT + len(stack)
        if end > self._memory.size:
            raise EngineError(
                f"a stack of {len(stack)} bytes does not fit the stack memory of "
                f"{self._memory.size} bytes"
            )
        self._memory.write(0, _HEAD.pack(end, self._memory.size))
        self._memory.write(_STACK_AT, stack)
        self.rewind_paused()

    def erase(self, size: int) -> None:
        """Overwrite a saved stack of ``size`` bytes with zeros."""
        self._memory.write(0, bytes(_STACK_AT + size))

    def finish_rewind(self) -> bool:
        """Return whether the rewind has consumed the whole saved stack; if so, resume normal
        execution.

        Call only from a host function.
        """
        end, _ = self._memory.unpack(_HEAD, 0)
        if end != _STACK_AT:
            return False
        self._instance.call("asyncify_stop_rewind")
        self.phase = StackPhase.RUNNING
        return True


def stack_mismatch_error(*, is_resumed: bool) -> EngineError:
    """Return the error for a stack that cannot be rewound.

    Either a function on the stack was called through a table that has changed since, or the stack
    comes from a snapshot (``is_resumed``) and was valid when the snapshot was taken.
    """
    if is_resumed:
        return EngineError(
            "the guest's stack cannot be rewound: the snapshot is damaged or of another guest; "
            "resume from another snapshot, or re-execute from the start"
        )
    return EngineError(
        "the guest's stack cannot be rewound: a table through which a function on the stack was "
        "called has changed; re-execute from the start without stacks"
    )


def stack_overflow_error() -> EngineError:
    """Return the error for a stack that is too large for a snapshot."""
    return EngineError(
        f"the guest's stack is larger than the limit of {STACK_SIZE_MAX} bytes for a snapshot: "
        "resume from another snapshot, or re-execute from the start"
    )
