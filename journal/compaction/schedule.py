"""When the journal of a live writer is compacted: a pure state machine."""

from dataclasses import dataclass, field

from journal.compaction.retention import RetentionPolicy
from journal.errors import OptionError

SIZE_MIN = 1 << 20


@dataclass(frozen=True, slots=True)
class CompactionSchedule:
    """Compact every so many events or bytes, when a journal has grown by a factor, or at its end.

    ``every_size`` is in bytes of blocks as they are written. A journal grows from what it had when
    it was compacted last, or opened; of less than ``size_min`` bytes no ``factor`` is taken, so
    that the first writes do not count as growth. With ``on_close`` it is compacted when it has been
    closed.
    """

    policy: RetentionPolicy = field(default_factory=RetentionPolicy)
    every_events: int | None = None
    every_size: int | None = None
    factor: float | None = None
    size_min: int = SIZE_MIN
    on_close: bool = False

    def __post_init__(self) -> None:
        for interval in (self.every_events, self.every_size):
            if interval is not None and interval < 1:
                raise OptionError(f"a journal is compacted every 1 or more, not every {interval}")
        if self.factor is not None and not self.factor > 1:
            raise OptionError(f"a journal grows by a factor above 1, not by {self.factor:g}")
        if self.size_min < 1:
            raise OptionError(f"a journal grows from 1 byte or more, not from {self.size_min}")

    @property
    def is_active(self) -> bool:
        """Whether anything is to be done while the writer is open."""
        return (self.every_events, self.every_size, self.factor) != (None, None, None)


class GrowthMeter:
    """Tells when it is time. A journal has ``size`` bytes when a writer begins with ``next_seq``.

    What is asked and told later counts, as ``written``, what the writer has written since.
    """

    def __init__(self, schedule: CompactionSchedule, next_seq: int, size: int) -> None:
        self._schedule = schedule
        self._next_seq = next_seq
        self._size = size
        self._written = 0

    def is_due(self, next_seq: int, written: int) -> bool:
        """Whether it is time."""
        schedule, grown = self._schedule, written - self._written
        if schedule.every_events is not None and next_seq - self._next_seq >= schedule.every_events:
            return True
        if schedule.every_size is not None and grown >= schedule.every_size:
            return True
        base = max(self._size, schedule.size_min)
        return schedule.factor is not None and self._size + grown >= schedule.factor * base

    def reset(self, next_seq: int, written: int, size: int | None = None) -> None:
        """Begin anew: it was compacted to ``size`` bytes, or that was tried to no avail."""
        self._size = self._size + written - self._written if size is None else size
        self._next_seq, self._written = next_seq, written
