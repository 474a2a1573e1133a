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

    def boot(self) -> None:
        """Nothing of the guest has run yet."""
        if self._camera is not None:
            self._camera.on_payload = self._see
        wanted = self.plan.next_snapshot
        while wanted is not None and not wanted.entry:
            self._take(SnapshotRequest(wanted.trigger, SuspendPoint(self.gate.calls + 1, "", "")))
            wanted = self.plan.next_snapshot

    def tick(self) -> None:
        """Time is nothing to it."""

    def go_live(self) -> None:
        """Nothing is asked of it."""

    def waiting(self, function: str, idle: bool) -> None:
        """Nothing waits where everything is told by the journal."""

    def _see(self, tag: int, payload: bytes) -> None:
        self.plan.payloads.append((tag, payload))

    def _watch(self) -> None:
        self.gate.watch(self.gate.names)

    def _hold(self, function: str, arguments: tuple[int, ...]) -> bool:
        """As before; a guest that was executed again has several snapshots of one call."""
        if super()._hold(function, arguments):
            return True
        while (trigger := self._wanted(function, arguments)) is not None:
            if self._stand(
                SnapshotRequest(trigger, SuspendPoint(self.gate.calls, self._entry, function))
            ):
                return True
        return False

    def _wanted(self, function: str, arguments: tuple[int, ...]) -> Trigger | None:
        wanted = self.plan.next_snapshot
        if wanted is None or wanted.calls != self.gate.calls or wanted.function != function:
            return None
        return wanted.trigger

    def _close(self, request: SnapshotRequest) -> None:
        assert self._camera is not None
        self.plan.compare(self._camera.close(request.trigger))
