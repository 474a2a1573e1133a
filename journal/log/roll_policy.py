"""Roll policy, which sets when a journal directory begins its next segment."""

from typing import NamedTuple

from journal.errors import OptionError

ROLL_SIZE_MAX = 1 << 34


class RollPolicy(NamedTuple):
    """Size, and optionally age, at which a journal directory begins its next segment.

    Importable as ``journal.log.RollPolicy``.
    """

    size_bytes: int = 1 << 26
    age_seconds: float | None = None

    def check(self) -> None:
        """Raise OptionError for values out of range."""
        if not 0 < self.size_bytes <= ROLL_SIZE_MAX:
            size = self.size_bytes
            raise OptionError(f"segment size must be 1 to {ROLL_SIZE_MAX} bytes, got {size}")
        if self.age_seconds is not None and self.age_seconds <= 0:
            raise OptionError(f"roll age must be greater than 0 seconds, got {self.age_seconds}")
