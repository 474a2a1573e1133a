"""Machine of a clone: its instance, and the return of memories, globals and stack to a snapshot."""

from dataclasses import dataclass

from journal.engine.memory.dirty_pages import DirtyPageTracking
from journal.engine.memory.mapping import MappedImage
from journal.engine.memory.resettable import ResettableMemory
from journal.engine.program.prepared import PreparedModule
from journal.engine.runtime.asyncify_stack import (
    AsyncifyStack,
    StackPhase,
    stack_mismatch_error,
    stack_overflow_error,
)
from journal.engine.runtime.bindings import GuestMemory, Instance
from journal.engine.runtime.call_gate import CallInterceptor
from journal.engine.runtime.globals_tables import InstanceGlobals, InstanceTables
from journal.engine.snapshot.capture import capture_rest
from journal.engine.snapshot.restore import SnapshotRestorer
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasm.loop_polls import POLL_FLAG, POLL_TABLE
from journal.errors import EngineError
from journal.events import codec
from journal.pages import encoding


@dataclass(frozen=True, slots=True)
class MachineImage:
    """Shared part of all clones of one snapshot: the program, the snapshot, and its memories.

    ``memories`` has the image of each memory by its index; empty memories have none.
    """

    program: PreparedModule
    start: SnapshotRestorer
    memories: dict[int, MappedImage]
    tracking: DirtyPageTracking
    private_size_max: int


class CloneMachine:
    """Instance of one clone, which runs the guest piece by piece and returns it to the snapshot.

    ``interceptor`` belongs to ``instance``, whose imports are defined.
    """

    def __init__(
        self, image: MachineImage, instance: Instance, interceptor: CallInterceptor
    ) -> None:
        self._image, self._instance, self._interceptor = image, instance, interceptor
        self._variant, self._start = image.program.variant, image.start
        interceptor.on_call, interceptor.on_suspend = self._on_call, self._on_suspend
        self._memories: list[GuestMemory] = []
        self._resettable: list[ResettableMemory] = []
        self._stack: AsyncifyStack | None = None
        self.memory = instance.instantiate(image.program.compiled)
        self.instance_count = 1
        """Instances that this machine has used."""
        try:
            self._attach()
        except BaseException:
            self.close()
            raise

    def _attach(self) -> None:
        """Bring the new instance to the state of the snapshot."""
        variant, instance = self._variant, self._instance
        self._memories = [instance.get_memory(name) for name in variant.memories]
        for index, memory in enumerate(self._memories):
            image = self._image.memories.get(index)
            if image is None:
                continue
            memory.grow(image.size)
            self._resettable.append(
                ResettableMemory(
                    memory.address, image, self._image.tracking, self._image.private_size_max
                )
            )
        self.memory.refresh()
        self.globals: InstanceGlobals = instance.get_globals(variant.globals)
        self.tables: InstanceTables | None = (
            instance.get_tables(variant.tables, variant.functions) if variant.tables else None
        )
        try:
            self._start.apply_rest(self.globals, self.tables)
        except EngineError as error:
            raise self._start.mismatch_error(error) from error
        if variant.has_stacks:
            self._stack = AsyncifyStack(instance, instance.get_memory(variant.stack_memory))
        if variant.polls_loops:
            instance.put_in_table(POLL_TABLE, self._poll)
        self._sizes = [memory.size for memory in self._memories]
        self._begin()

    def _begin(self) -> None:
        """Prepare the first call of the guest."""
        start = self._start
        entries = self._variant.entries
        self._entries = list(entries[entries.index(start.entry) if start.entry else 0 :])
        self._function = start.function
        self._saved_size = len(start.parts.stack or b"")
        self._is_begun = self._is_paused = self._is_broken = False
        self._interceptor.calls = start.calls

    # -- the run ----------------------------------------------------------------------------------

    def run(self) -> bool:
        """Run the guest until it ends or waits. Return whether it waits and can be run again.

        Raises the exceptions of ``Instance.call``, after which the guest can only be reset.
        """
        self._is_broken = True
        while self._entries:
            self._rewind()
            self._instance.call(self._entries[0])
            stack = self._stack
            if stack is None or stack.phase is StackPhase.RUNNING:
                del self._entries[0]
                continue
            if stack.phase is StackPhase.REWINDING:
                raise stack_mismatch_error(is_resumed=True)
            self._saved_size = max(self._saved_size, stack.pause())
            self._is_paused, self._is_broken = True, False
            return True
        self._is_broken = False
        return False

    def _rewind(self) -> None:
        """Rewind the stack of the guest at its next call, if it has one."""
        stack, saved_stack = self._stack, None if self._is_begun else self._start.parts.stack
        self._is_begun = True
        if saved_stack is not None:
            assert stack is not None, "only a variant with stacks has such a snapshot"
            stack.rewind(saved_stack)
        elif self._is_paused:
            assert stack is not None
            self._is_paused = False
            stack.rewind_paused()
        else:
            return  # The call is that of a function that has not been called yet.
        self._interceptor.intercept_all()
        if self._variant.polls_loops:
            self._instance.set_flag(POLL_FLAG, 1)

    def _on_call(self, function: str, arguments: tuple[int, ...]) -> bool:
        self._finish_rewind(function)
        return False

    def _on_suspend(self, function: str) -> None:
        assert self._stack is not None, "a guest without a stack is stopped instead"
        self._function = function
        self._stack.unwind()

    def _poll(self) -> None:
        self._finish_rewind("")

    def _finish_rewind(self, function: str) -> None:
        stack = self._stack
        if (
            stack is not None
            and stack.phase is StackPhase.REWINDING
            and (function != self._function or not stack.finish_rewind())
        ):
            raise stack_mismatch_error(is_resumed=True)
        self._interceptor.set_always(())
        if self._variant.polls_loops:
            self._instance.set_flag(POLL_FLAG, 0)

    def check_trap(self) -> None:
        """Raise ``EngineError`` if unwinding or rewinding caused the guest's trap."""
        if self._stack is None or self._stack.phase is StackPhase.RUNNING:
            return
        if self._stack.phase is StackPhase.UNWINDING:
            raise stack_overflow_error()
        raise stack_mismatch_error(is_resumed=True)

    @property
    def memory_size(self) -> int:
        """Return the size of the largest memory of the guest in bytes."""
        return max((memory.refresh() for memory in self._memories), default=0)

    def compute_digest(self, context: CallContext) -> bytes:
        """Return the digest of the present state, with the descriptors of ``context``.

        Before the first call it is that of the snapshot.
        """
        saved_stack = self._start.parts.stack
        if self._is_begun and self._stack is not None:
            saved_stack = self._stack.read_paused()
        events = capture_rest(self.globals, self.tables, saved_stack, context)
        for memory in self._memories:
            memory.refresh()  # The guest may have grown it.
        sums = [
            (index, memory.size, encoding.hash_memory(index, memory.view))
            for index, memory in enumerate(self._memories)
        ]
        return encoding.compute_state_digest(sums, map(codec.encode, events))

    # -- the return -------------------------------------------------------------------------------

    @property
    def _needs_instance(self) -> bool:
        """Return whether the instance has state that cannot be set back.

        A memory cannot shrink, dropped segments stay dropped, and an interrupted unwind or rewind
        leaves a stack of unknown size.
        """
        stack = self._stack
        return (
            stack is None
            or stack.phase is not StackPhase.RUNNING
            or self.tables is not None
            or [memory.refresh() for memory in self._memories] != self._sizes
        )

    def reset(self) -> bool:
        """Return to the snapshot. Return whether a new instance replaced the old one."""
        if not self._is_begun:
            return False
        if self._needs_instance:
            self.renew()
            return True
        for memory in self._resettable:
            memory.reset()
        self._start.apply_rest(self.globals, self.tables)
        assert self._stack is not None
        self._stack.erase(self._saved_size)
        if self._is_broken:
            self._finish_rewind("")
        self._begin()
        return False

    def renew(self) -> None:
        """Replace the instance by a new one at the snapshot."""
        self._release()
        self.memory = self._instance.reinstantiate(self._image.program.compiled)
        self.instance_count += 1
        self._attach()

    def _release(self) -> None:
        for memory in self._resettable:
            memory.close()
        self._resettable, self._memories, self._stack = [], [], None

    def close(self) -> None:
        """Free the memories of the guest."""
        self._release()
        self._instance.close()
