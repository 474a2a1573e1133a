"""Roll policy, which sets when a journal directory begins its next segment."""

from typing import NamedTuple

from journal._arguments import check_int, check_seconds

ROLL_SIZE_MAX = 1 << 34


class RollPolicy(NamedTuple):
    """Size, and optionally age, at which a journal directory begins its next segment.

    Importable as ``journal.log.RollPolicy``.
    """

    size_bytes: int = 1 << 26
    age_seconds: float | None = None

    def check(self) -> None:
        """Raise OptionError for values out of range."""
        check_int("segment size", self.size_bytes, 1, ROLL_SIZE_MAX)
        if self.age_seconds is not None:
            check_seconds("roll age", self.age_seconds, can_be_zero=False)
