"""Options of the snapshots of a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from journaltool.options import common

if TYPE_CHECKING:
    from journal.engine import SnapshotOptions
    from journal.events.snapshots import Trigger


class StacksChoice(StrEnum):
    """Values of ``journal.engine.Stacks``: whether snapshots have the stacks of the guest."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class SafePointsChoice(StrEnum):
    """Values of ``journal.engine.SafePoints``: where a guest can be suspended for a snapshot."""

    CALLS = "calls"
    LOOPS = "loops"


class DirtyPagesChoice(StrEnum):
    """Values of ``journal.engine.DirtyPageTracking``: how written pages are found."""

    AUTO = "auto"
    KERNEL = "kernel"
    COMPARE = "compare"


OnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--snapshot-on",
        metavar="NAME",
        help="Take a snapshot at this trigger. Repeatable. The defaults are idle, first-environ, "
        "first-listen, first-stdin and explicit (a request of the program).",
    ),
]
PeriodOption = Annotated[
    float | None,
    typer.Option(
        "--snapshot-period",
        parser=common.parse_seconds,
        metavar="SECONDS",
        help="Take a snapshot at this interval. The trigger periodic-interval alone uses 10.",
    ),
]
EventsOption = Annotated[
    int | None,
    typer.Option(
        "--snapshot-events", min=1, metavar="N", help="Take a snapshot every N recorded events."
    ),
]
BytesOption = Annotated[
    int | None,
    typer.Option(
        "--snapshot-bytes",
        parser=common.parse_size,
        metavar="SIZE",
        help="Take a snapshot every time the journal grows by SIZE.",
    ),
]
NoneOption = Annotated[bool, typer.Option("--no-snapshots", help="Take no snapshots.")]
StopAfterOption = Annotated[
    bool,
    typer.Option(
        "--stop-after-snapshot",
        help="Stop the program after the first snapshot, with exit code 0. It can be resumed.",
    ),
]
StacksOption = Annotated[
    StacksChoice,
    typer.Option(
        help="Save the stacks of the guest, so that a resume can start at the snapshot. This makes "
        "guests slower, and some modules do not support it."
    ),
]
SafePointsOption = Annotated[
    SafePointsChoice,
    typer.Option(
        help="Take snapshots at host calls, or also at loops. Loops make guests slower, but suit "
        "guests that compute for a long time without a host call."
    ),
]
DirtyPagesOption = Annotated[
    DirtyPagesChoice,
    typer.Option(help="Find written memory pages with the kernel or by comparison."),
]
PageIndexOption = Annotated[
    bool,
    typer.Option(
        "--page-index/--no-page-index",
        help="Store a reference instead of a page that the journal already contains.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotArguments:
    """Values of the snapshot options of one command."""

    on: Sequence[str] | None
    period: float | None
    events: int | None
    size: int | None
    none: bool
    stop_after: bool
    stacks: StacksChoice
    safe_points: SafePointsChoice
    dirty_pages: DirtyPagesChoice
    page_index: bool = False

    @property
    def has_triggers(self) -> bool:
        """Return whether an option selects a trigger."""
        return bool(self.on) or (self.period, self.events, self.size) != (None, None, None)


def build_snapshots(options: SnapshotArguments) -> "SnapshotOptions":
    """Return the snapshot settings for the library. The default triggers are those of Wasmer."""
    from journal import OptionError
    from journal.engine import DirtyPageTracking, SafePoints, SnapshotOptions, Stacks

    if options.none and (options.has_triggers or options.stop_after):
        raise typer.BadParameter("--no-snapshots excludes the options that take snapshots")
    by_default = not (options.has_triggers or options.none)
    try:
        on, period = _build_triggers(options, by_default)
    except OptionError as error:
        raise typer.BadParameter(str(error)) from None
    return SnapshotOptions(
        on=on,
        period_seconds=period,
        every_events=options.events,
        every_bytes=options.size,
        stacks=Stacks(options.stacks.value),
        safe_points=SafePoints(options.safe_points.value),
        dirty_page_tracking=DirtyPageTracking(options.dirty_pages.value),
        stop_after=options.stop_after,
        by_default=by_default,
        page_index=options.page_index,
    )


def _build_triggers(
    options: SnapshotArguments, by_default: bool
) -> "tuple[frozenset[Trigger], float]":
    """Return the triggers and the period in seconds, or raise ``OptionError``."""
    from journal.events.snapshots import Trigger
    from journal.snapshots.triggers import DEFAULTS, PERIOD_SECONDS, TriggerState, parse_trigger

    on = set(DEFAULTS) if by_default else {parse_trigger(name) for name in options.on or ()}
    if options.period is not None:
        on.add(Trigger.PERIODIC_INTERVAL)
    period = PERIOD_SECONDS if options.period is None else options.period
    TriggerState(on, period_seconds=period, every_events=options.events, every_bytes=options.size)
    return frozenset(on), period
