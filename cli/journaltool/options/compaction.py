"""Options of the scheduled compaction of a run."""

from typing import TYPE_CHECKING, Annotated

import typer

from journaltool.options import common

if TYPE_CHECKING:
    from journal.compaction import CompactionSchedule

GrowthOption = Annotated[
    float | None,
    typer.Option(
        "--compact-growth",
        metavar="FACTOR",
        help="Compact the journal when it has grown by this factor, such as 2. This requires "
        "snapshots.",
    ),
]
EventsOption = Annotated[
    int | None,
    typer.Option(
        "--compact-events", min=1, metavar="N", help="Compact the journal every N events."
    ),
]
BytesOption = Annotated[
    int | None,
    typer.Option(
        "--compact-bytes",
        parser=common.parse_size,
        metavar="SIZE",
        help="Compact the journal every time it grows by SIZE.",
    ),
]
OnCloseOption = Annotated[
    bool,
    typer.Option("--compact-on-close", help="Compact the journal when the run ends or is stopped."),
]
KeepOption = Annotated[
    int,
    typer.Option(
        "--compact-keep", min=1, metavar="N", help="Retain the newest N snapshots in a compaction."
    ),
]


def build_schedule(
    *, growth: float | None, events: int | None, size: int | None, on_close: bool, keep: int
) -> "CompactionSchedule | None":
    """Return the schedule that the options select, or None without such options."""
    if not on_close and (growth, events, size) == (None, None, None):
        return None
    from journal import OptionError
    from journal.compaction import CompactionSchedule, RetentionPolicy

    try:
        return CompactionSchedule(
            RetentionPolicy(keep),
            every_events=events,
            every_size=size,
            factor=growth,
            on_close=on_close,
        )
    except OptionError as error:
        raise typer.BadParameter(str(error)) from None
