"""Suspension of a replayed guest at the recorded snapshots, to compare its state."""

from collections.abc import Callable, Sequence
from typing import Protocol

from journal.engine.snapshot.capture import CapturedSnapshot, SuspendPoint, TrackedMemory
from journal.engine.snapshot.recorded_memory import PageLocations
from journal.engine.snapshot.suspension import SnapshotCoordinator, SnapshotRequest
from journal.events.memory import MemoryPages
from journal.events.snapshots import Trigger
from journal.snapshots.catalog import SnapshotInfo


class CheckPlan(Protocol):
    """The recorded snapshots that a run passes, in order."""

    payloads: list[tuple[int, bytes]]
    changed: PageLocations

    @property
    def next_snapshot(self) -> SnapshotInfo | None:
        """Return the snapshot that the run passes next, or None."""

    def compare(self, snapshot: CapturedSnapshot, memories: Sequence[TrackedMemory]) -> None:
        """Compare the captured state with the next snapshot."""


class SnapshotCheckCoordinator(SnapshotCoordinator):
    """Suspends the guest at the snapshots of a plan, and nowhere else."""

    plan: CheckPlan
    on_compared: Callable[[], None]

    def follow_plan(self, plan: CheckPlan, on_compared: Callable[[], None]) -> None:
        """Set the plan. ``on_compared`` is called after each comparison."""
        self.plan, self.on_compared = plan, on_compared

    def take_bootstrap(self) -> None:
        """Check the snapshots taken before the first entry function."""
        if self._capture is not None:
            self._capture.on_payload = self._add_payload
            self._capture.on_pages = self._add_pages
        info = self.plan.next_snapshot
        while info is not None and not info.entry:
            point = SuspendPoint(self.interceptor.calls + 1, "", "")
            self._take(SnapshotRequest(info.trigger, point))
            info = self.plan.next_snapshot

    def tick(self) -> None:
        """Ignore the clock tick."""

    def go_live(self) -> None:
        """Do nothing: a verified guest does not continue live."""

    def check_wait(self, function: str, idle: bool) -> None:
        """Do nothing: a replay does not wait."""

    def _add_payload(self, tag: int, payload: bytes) -> None:
        self.plan.payloads.append((tag, payload))

    def _add_pages(self, event: MemoryPages) -> None:
        self.plan.changed.update((event.memory, number) for number in event.numbers)

    def _write_state(self, request: SnapshotRequest, stack: bytes | None) -> None:
        self.plan.payloads.clear()
        super()._write_state(request, stack)

    def _update_interception(self) -> None:
        self.interceptor.set_always(self.interceptor.names)

    def _on_call(self, function: str, arguments: tuple[int, ...]) -> bool:
        """Suspend the guest if the call has a snapshot.

        A call can have several snapshots if an earlier resume executed the guest again.
        """
        if super()._on_call(function, arguments):
            return True
        while (trigger := self._find_trigger(function, arguments)) is not None:
            point = SuspendPoint(self.interceptor.calls, self._entry, function)
            if self._suspend(SnapshotRequest(trigger, point)):
                return True
        return False

    def _find_trigger(self, function: str, arguments: tuple[int, ...]) -> Trigger | None:
        info = None if self._context.signals.is_handling else self.plan.next_snapshot
        if info is None or info.calls != self.interceptor.calls or info.function != function:
            return None
        return info.trigger

    def _commit(self, request: SnapshotRequest) -> None:
        assert self._capture is not None
        snapshot = self._capture.commit(request.trigger)
        self.plan.compare(snapshot, self._capture.machine.memories)
        self.on_compared()
