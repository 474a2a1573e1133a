"""Limits of one session with a guest."""

from dataclasses import dataclass

from journal._arguments import check_int, check_optional, check_seconds

OUTPUT_SIZE_MAX = 64 << 20
"""Default limit of the output of one session, in bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """Limits of one session with a guest. None: no limit besides those of the recording.

    ``memory_size_max`` bounds each linear memory of the guest, ``files_size_max`` the files of each
    in-memory directory, and ``output_size_max`` the output of the whole session, in bytes.
    ``seconds_max`` bounds the time of one call of the guest.
    """

    memory_size_max: int | None = None
    seconds_max: float | None = None
    output_size_max: int = OUTPUT_SIZE_MAX
    files_size_max: int | None = None

    def __post_init__(self) -> None:
        for name in ("memory_size_max", "files_size_max"):
            check_optional(name, getattr(self, name), check_int)
        if self.seconds_max is not None:
            check_seconds("seconds_max", self.seconds_max, can_be_zero=False)
        check_int("output_size_max", self.output_size_max)
