"""Options of the scheduled compaction of a run."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from journaltool.options import common

if TYPE_CHECKING:
    from journal.compaction import CompactionSchedule


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionArguments:
    """Options of the scheduled compaction of a run."""

    compact_growth: Annotated[
        float | None,
        typer.Option(
            metavar="FACTOR",
            help="Compact the journal when it has grown by this factor, such as 2. This requires "
            "snapshots.",
        ),
    ] = None
    compact_events: Annotated[
        int | None,
        typer.Option(
            click_type=common.Number(min=1), metavar="N", help="Compact the journal every N events."
        ),
    ] = None
    compact_bytes: Annotated[
        int | None,
        common.size_option("Compact the journal every time it grows by SIZE."),
    ] = None
    compact_on_close: Annotated[
        bool,
        typer.Option(
            "--compact-on-close", help="Compact the journal when the run ends or is stopped."
        ),
    ] = False
    no_compaction: Annotated[
        bool,
        typer.Option("--no-compaction", help="Do not compact the journal."),
    ] = False
    compact_keep: Annotated[
        int | None,
        typer.Option(
            click_type=common.Number(min=1),
            metavar="N",
            show_default="1",
            help="Retain the newest N snapshots in a compaction.",
        ),
    ] = None

    @property
    def _selects_limits(self) -> bool:
        limits = (self.compact_growth, self.compact_events, self.compact_bytes)
        return self.compact_on_close or limits != (None, None, None)

    def check(self) -> None:
        """Raise ``BadParameter`` for options that exclude one another."""
        if self.no_compaction and self._selects_limits:
            raise typer.BadParameter("--no-compaction excludes the options that compact")

    def build(self, recorded: "CompactionSchedule | None" = None) -> "CompactionSchedule | None":
        """Return the schedule for the library, or None if no option selects one.

        The options that are not given are those of ``recorded``, the recording to resume. Limits
        that are given replace all of the recorded ones. ``--no-compaction`` is an empty schedule.
        """
        self.check()
        if not (self._selects_limits or self.no_compaction or recorded):
            return None
        from journal import OptionError
        from journal.compaction import CompactionSchedule

        if self.no_compaction:
            return CompactionSchedule()
        schedule = recorded or CompactionSchedule()
        try:
            if self.compact_keep is not None:
                policy = replace(schedule.policy, keep_last=self.compact_keep)
                schedule = replace(schedule, policy=policy)
            if not self._selects_limits:
                return schedule
            return replace(
                schedule,
                every_events=self.compact_events,
                every_size=self.compact_bytes,
                factor=self.compact_growth,
                on_close=self.compact_on_close,
            )
        except OptionError as error:
            raise typer.BadParameter(str(error)) from None
