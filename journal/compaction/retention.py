"""Retention of snapshots: the selection of the snapshots that a compaction keeps."""

from collections.abc import Sequence
from dataclasses import dataclass

from journal._arguments import check_each, check_int, check_optional, check_seconds, check_type
from journal.snapshots.catalog import SnapshotInfo

_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """Policy that keeps the newest ``keep_last`` snapshots, and the snapshots of the other options.

    ``keep_every`` keeps the newest snapshot of each span of that many sequence numbers;
    ``keep_within_seconds`` keeps the snapshots taken at most that long before the newest.

    > Why spans, and not every n-th snapshot? A compaction drops snapshots, so a count would select
    other snapshots the next time. Ages count from the newest snapshot, not from the clock, so
    that the journal alone decides the result.
    """

    keep_last: int = 1
    keep_every: int | None = None
    keep_within_seconds: float | None = None

    def __post_init__(self) -> None:
        check_int("keep_last", self.keep_last, 1)
        check_optional("keep_every", self.keep_every, check_int, 1)
        check_optional("keep_within_seconds", self.keep_within_seconds, check_seconds)

    def kept(self, infos: Sequence[SnapshotInfo]) -> list[SnapshotInfo]:
        """Return the kept snapshots of ``infos``; both are in sequence order."""
        infos = check_each("infos", infos, lambda name, info: check_type(name, info, SnapshotInfo))
        kept_seqs = {info.seq for info in infos[-self.keep_last :]}
        if self.keep_every is not None:
            kept_seqs |= set({info.seq // self.keep_every: info.seq for info in infos}.values())
        if self.keep_within_seconds is not None and infos:
            oldest = infos[-1].time - self.keep_within_seconds * _MICROSECONDS
            kept_seqs |= {info.seq for info in infos if info.time >= oldest}
        return [info for info in infos if info.seq in kept_seqs]
