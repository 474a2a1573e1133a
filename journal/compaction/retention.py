"""Which snapshots a compaction keeps."""

from collections.abc import Sequence
from dataclasses import dataclass

from journal.errors import OptionError
from journal.snapshots.catalog import SnapshotInfo

_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """Keep the newest ``keep_last`` snapshots, and those that another wish names.

    ``keep_every`` keeps the newest of each span of so many event numbers, ``keep_within_seconds``
    those that are no older than that beside the newest.

    > Why spans of numbers, and not each so manyth? A compaction takes snapshots away: counted
    again, the next one would take others. And the newest counts, not the clock: what a compaction
    does is told by the journal alone.
    """

    keep_last: int = 1
    keep_every: int | None = None
    keep_within_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.keep_last < 1:
            raise OptionError(f"the newest snapshot is always kept, and {self.keep_last} are none")
        if self.keep_every is not None and self.keep_every < 1:
            raise OptionError(f"a span has one event number or more, not {self.keep_every}")
        if self.keep_within_seconds is not None and not self.keep_within_seconds >= 0:
            raise OptionError(f"no snapshot is {self.keep_within_seconds} seconds old")

    def kept(self, infos: Sequence[SnapshotInfo]) -> list[SnapshotInfo]:
        """Those of ``infos`` that are kept; both in order."""
        last = {info.seq for info in infos[-self.keep_last :]}
        if self.keep_every is not None:
            last |= set({info.seq // self.keep_every: info.seq for info in infos}.values())
        if self.keep_within_seconds is not None and infos:
            oldest = infos[-1].time - self.keep_within_seconds * _MICROSECONDS
            last |= {info.seq for info in infos if info.time >= oldest}
        return [info for info in infos if info.seq in last]
