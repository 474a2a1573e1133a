"""Options of the scheduled compaction of a run."""

from dataclasses import dataclass
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
        typer.Option(
            parser=common.parse_size,
            metavar="SIZE",
            help="Compact the journal every time it grows by SIZE.",
        ),
    ] = None
    compact_on_close: Annotated[
        bool,
        typer.Option(
            "--compact-on-close", help="Compact the journal when the run ends or is stopped."
        ),
    ] = False
    compact_keep: Annotated[
        int,
        typer.Option(
            click_type=common.Number(min=1),
            metavar="N",
            help="Retain the newest N snapshots in a compaction.",
        ),
    ] = 1

    def build(self) -> "CompactionSchedule | None":
        """Return the schedule for the library, or None if no option selects a compaction."""
        limits = (self.compact_growth, self.compact_events, self.compact_bytes)
        if not self.compact_on_close and limits == (None, None, None):
            return None
        from journal import OptionError
        from journal.compaction import CompactionSchedule, RetentionPolicy

        try:
            return CompactionSchedule(
                RetentionPolicy(self.compact_keep),
                every_events=self.compact_events,
                every_size=self.compact_bytes,
                factor=self.compact_growth,
                on_close=self.compact_on_close,
            )
        except OptionError as error:
            raise typer.BadParameter(str(error)) from None
