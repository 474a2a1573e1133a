"""Holding a guest up where its journal has snapshots, to compare instead of taking them."""

from typing import Protocol

from journal.engine.snapshot.capture import CapturedSnapshot, SuspendPoint
from journal.engine.snapshot.suspension import SnapshotCoordinator, SnapshotRequest
from journal.events.snapshots import Trigger
from journal.snapshots.catalog import SnapshotInfo


class CheckPlan(Protocol):
    """The snapshots that a run comes by, in order."""

    payloads: list[tuple[int, bytes]]

    @property
    def next_snapshot(self) -> SnapshotInfo | None:
        """The one that comes next."""

    def compare(self, shot: CapturedSnapshot) -> None:
        """The guest is where the next one was taken: the state is this."""


class SnapshotCheckCoordinator(SnapshotCoordinator):
    """Stands still where a plan has snapshots, and nowhere else."""

    plan: CheckPlan

    def follow_plan(self, plan: CheckPlan) -> None:
        """Stand still by ``plan``."""
        self.plan = plan

    def take_bootstrap(self) -> None:
        """Nothing of the guest has run yet."""
        if self._capture is not None:
            self._capture.on_payload = self._see
        wanted = self.plan.next_snapshot
        while wanted is not None and not wanted.entry:
            point = SuspendPoint(self.interceptor.calls + 1, "", "")
            self._take(SnapshotRequest(wanted.trigger, point))
            wanted = self.plan.next_snapshot

    def tick(self) -> None:
        """Time is nothing to it."""

    def go_live(self) -> None:
        """Nothing is asked of it."""

    def check_wait(self, function: str, idle: bool) -> None:
        """Nothing waits where everything is told by the journal."""

    def _see(self, tag: int, payload: bytes) -> None:
        self.plan.payloads.append((tag, payload))

    def _update_interception(self) -> None:
        self.interceptor.set_always(self.interceptor.names)

    def _on_call(self, function: str, arguments: tuple[int, ...]) -> bool:
        """As before; a guest that was executed again has several snapshots of one call."""
        if super()._on_call(function, arguments):
            return True
        while (trigger := self._find_trigger(function, arguments)) is not None:
            point = SuspendPoint(self.interceptor.calls, self._entry, function)
            if self._suspend(SnapshotRequest(trigger, point)):
                return True
        return False

    def _find_trigger(self, function: str, arguments: tuple[int, ...]) -> Trigger | None:
        wanted = self.plan.next_snapshot
        if wanted is None or wanted.calls != self.interceptor.calls or wanted.function != function:
            return None
        return wanted.trigger

    def _commit(self, request: SnapshotRequest) -> None:
        assert self._capture is not None
        self.plan.compare(self._capture.commit(request.trigger))
