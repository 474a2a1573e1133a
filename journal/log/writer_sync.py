"""Durability of a writer's events: syncs on request, and as the commit policy requires."""

from contextlib import AbstractContextManager

from journal.log.commit_policy import CommitLevel, CommitPolicy, Committer
from journal.log.group_commit import GroupCommit
from journal.log.pending_block import PendingBlock, WriterState


class WriterSync:
    """Syncs of a writer's events, at most one at a time. Thread-safe.

    The sync lock, which ``exclusive`` holds, is always taken before the pending block's lock. Other
    threads can append during a sync.
    """

    __slots__ = ("_committer", "_group_commit", "_pending", "_policy")

    def __init__(self, pending: PendingBlock, policy: CommitPolicy, name: str) -> None:
        self._pending = pending
        self._policy = policy
        pending.must_commit = policy.level not in (CommitLevel.EXPLICIT, CommitLevel.NONE)
        self._group_commit = self._make_group_commit()
        self._committer: Committer | None = None
        if policy.period_seconds:
            self._committer = Committer(
                self.sync, self._can_retry, policy.period_seconds, f"commits of {name}"
            )

    def exclusive(self) -> AbstractContextManager[None]:
        """Return a context that holds the sync lock."""
        return self._group_commit.exclusive()

    def flush(self) -> None:
        """Write the pending block to the kernel. Sync too if that is due."""
        pending = self._pending
        with pending.lock:
            pending.check_writes()
            pending.write()
        if pending.appender.is_commit_due:
            self.sync()

    def sync(self) -> None:
        """Make all events durable, and roll if that is due."""
        with self.exclusive():
            self.sync_exclusively()

    def wait(self, seq: int, timeout_seconds: float | None = None) -> bool:
        """Wait until event ``seq`` is durable. Return False after the timeout."""
        return self._group_commit.wait(seq, timeout_seconds)

    def apply_policy(self, seq: int) -> None:
        """Commit as the policy requires after event ``seq``. Call without the lock."""
        self._pending.check_process()
        appender, policy = self._pending.appender, self._policy
        if appender.is_commit_due:
            self.sync()
        if policy.level is CommitLevel.EVERY:
            self.wait(seq)
        elif self._committer is not None:
            self._committer.wake()
            if policy.events_max and seq + 1 - appender.durable_upto >= policy.events_max:
                self.wait(seq)
        else:
            self._pending.must_commit = False

    def sync_exclusively(self, *, roll: bool = True) -> None:
        """Make all events durable. The caller holds the sync lock, and not the other lock."""
        pending = self._pending
        with pending.lock:
            pending.check_writes()
            pending.write()
            appender = pending.appender
            unsynced = appender.pending_sync()
        if unsynced is not None:
            unsynced.sync()
            with pending.lock:
                appender.finish_sync(unsynced)
        if roll and appender.should_roll:
            with pending.lock:
                appender.roll()

    def settle_exclusively(self, *, roll: bool) -> None:
        """Make all events durable; only write those of a hasty journal."""
        pending = self._pending
        if not pending.appender.is_hasty:
            self.sync_exclusively(roll=roll)
            return
        with pending.lock:
            pending.check_writes()
            pending.write()

    def stop(self) -> None:
        """End the thread that commits."""
        if self._committer is not None:
            self._committer.stop()
            self._committer = None

    def abandon(self) -> None:
        """Forget the parent's threads and their locks, in a forked child."""
        self._committer = None
        self._group_commit = self._make_group_commit()

    def _make_group_commit(self) -> GroupCommit:
        return GroupCommit(self.sync_exclusively, self._get_durable_upto)

    def _can_retry(self) -> bool:
        return self._pending.state is not WriterState.FAILED

    def _get_durable_upto(self) -> int:
        return self._pending.appender.durable_upto
