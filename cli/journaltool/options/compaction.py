"""Options that say when the journal of a run is compacted."""

from typing import TYPE_CHECKING, Annotated

import typer

from journaltool.options import common

if TYPE_CHECKING:
    from journal import CompactionSchedule

GrowthOption = Annotated[
    float | None,
    typer.Option(
        "--compact-growth",
        metavar="FACTOR",
        help="Compact the journal whenever it has grown by this, such as 2. Snapshots let it.",
    ),
]
EventsOption = Annotated[
    int | None,
    typer.Option("--compact-events", min=1, metavar="N", help="Compact it every N events."),
]
BytesOption = Annotated[
    int | None,
    typer.Option(
        "--compact-bytes",
        parser=common.parse_size,
        metavar="SIZE",
        help="Compact it every so much.",
    ),
]
OnCloseOption = Annotated[
    bool, typer.Option("--compact-on-close", help="Compact it when the run ends or is stopped.")
]
KeepOption = Annotated[
    int,
    typer.Option(
        "--compact-keep", min=1, metavar="N", help="Keep the newest N snapshots when compacting."
    ),
]


def build_schedule(
    *, growth: float | None, events: int | None, size: int | None, on_close: bool, keep: int
) -> "CompactionSchedule | None":
    """When the library is to compact, by what the options say; None where nothing is wished."""
    if not on_close and (growth, events, size) == (None, None, None):
        return None
    from journal import CompactionSchedule, OptionError, RetentionPolicy

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
