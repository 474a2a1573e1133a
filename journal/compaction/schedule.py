"""Schedule of compactions of a live writer's journal: a pure state machine."""

from dataclasses import dataclass, field

from journal.compaction.retention import RetentionPolicy
from journal.errors import OptionError

SIZE_MIN = 1 << 20


@dataclass(frozen=True, slots=True)
class CompactionSchedule:
    """Schedule of compactions: after a number of events or bytes, after growth, or on close.

    ``every_size`` counts the bytes of written blocks. Growth counts from the size after the last
    compaction, or at opening. ``factor`` applies to at least ``size_min`` bytes, so that the first
    writes do not count as growth. ``on_close`` compacts the journal after it is closed.
    """

    policy: RetentionPolicy = field(default_factory=RetentionPolicy)
    every_events: int | None = None
    every_size: int | None = None
    factor: float | None = None
    size_min: int = SIZE_MIN
    on_close: bool = False

    def __post_init__(self) -> None:
        for name, interval in (("events", self.every_events), ("size", self.every_size)):
            if interval is not None and interval < 1:
                raise OptionError(f"every_{name} must be at least 1, got {interval}")
        if self.factor is not None and not self.factor > 1:
            raise OptionError(f"factor must be greater than 1, got {self.factor:g}")
        if self.size_min < 1:
            raise OptionError(f"size_min must be at least 1 byte, got {self.size_min}")

    @property
    def is_active(self) -> bool:
        """Return whether compactions happen while the writer is open."""
        return (self.every_events, self.every_size, self.factor) != (None, None, None)


class GrowthMeter:
    """Meter of a journal's growth, from ``next_seq`` and ``size`` bytes, that a compaction resets.

    The methods take the writer's next sequence number, and the bytes ``written`` since it was
    opened.
    """

    def __init__(self, schedule: CompactionSchedule, next_seq: int, size: int) -> None:
        self._schedule = schedule
        self._next_seq = next_seq
        self._size = size
        self._written = 0

    def is_due(self, next_seq: int, written: int) -> bool:
        """Return whether a compaction is due."""
        schedule, growth = self._schedule, written - self._written
        if schedule.every_events is not None and next_seq - self._next_seq >= schedule.every_events:
            return True
        if schedule.every_size is not None and growth >= schedule.every_size:
            return True
        base = max(self._size, schedule.size_min)
        return schedule.factor is not None and self._size + growth >= schedule.factor * base

    def reset(self, next_seq: int, written: int, size: int | None = None) -> None:
        """Start a new interval. After a successful compaction ``size`` is the new size in bytes."""
        self._size = self._size + written - self._written if size is None else size
        self._next_seq, self._written = next_seq, written
