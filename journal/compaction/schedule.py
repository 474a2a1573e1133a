"""Schedule of compactions of a live writer's journal: a pure state machine."""

from dataclasses import dataclass, field
from math import isfinite

from journal._arguments import check_flag, check_int, check_optional, check_type, refuse
from journal.compaction.retention import RetentionPolicy

SIZE_MIN = 1 << 20
_FACTOR_MAX = 1_000_000


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
        check_type("policy", self.policy, RetentionPolicy)
        check_optional("every_events", self.every_events, check_int, 1)
        check_optional("every_size", self.every_size, check_int, 1)
        check_optional("factor", self.factor, _check_factor)
        check_int("size_min", self.size_min, 1)
        check_flag("on_close", self.on_close)

    @property
    def is_active(self) -> bool:
        """Return whether compactions happen while the writer is open."""
        return (self.every_events, self.every_size, self.factor) != (None, None, None)


def _check_factor(name: str, value: float) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # A comparison, unlike a conversion, accepts an integer of any size.
    if not is_number or not 1 < value <= _FACTOR_MAX or not isfinite(value):
        refuse(name, f"a number greater than 1 and at most {_FACTOR_MAX}", value)
    return value


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
