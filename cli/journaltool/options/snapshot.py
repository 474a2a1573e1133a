"""Options that say when snapshots are taken, and how."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from journaltool.options import common

if TYPE_CHECKING:
    from journal import SnapshotOptions
    from journal.events.snapshots import Trigger


class StacksChoice(StrEnum):
    """Whether snapshots have the guest's stacks: ``journal.Stacks``."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class SafePointsChoice(StrEnum):
    """Where a guest can stand still for a snapshot: ``journal.SafePoints``."""

    CALLS = "calls"
    LOOPS = "loops"


class DirtyPagesChoice(StrEnum):
    """How pages are found that the guest has written: ``journal.DirtyPageTracking``."""

    AUTO = "auto"
    KERNEL = "kernel"
    COMPARE = "compare"


OnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--snapshot-on",
        metavar="NAME",
        help="Take a snapshot when this happens. Repeatable. By default idle, first-environ, "
        "first-listen, first-stdin and explicit, of programs that ask for snapshots themselves.",
    ),
]
PeriodOption = Annotated[
    float | None,
    typer.Option(
        "--snapshot-period",
        parser=common.parse_seconds,
        metavar="SECONDS",
        help="Take one every so many seconds; 10 for --snapshot-on periodic-interval alone.",
    ),
]
EventsOption = Annotated[
    int | None,
    typer.Option(
        "--snapshot-events", min=1, metavar="N", help="Take one after every N events recorded."
    ),
]
BytesOption = Annotated[
    int | None,
    typer.Option(
        "--snapshot-bytes",
        parser=common.parse_size,
        metavar="SIZE",
        help="Take one after so much of the journal.",
    ),
]
NoneOption = Annotated[bool, typer.Option("--no-snapshots", help="Take none.")]
StopAfterOption = Annotated[
    bool,
    typer.Option(
        "--stop-after-snapshot", help="Stop with the first snapshot, exit 0; resume goes on."
    ),
]
StacksOption = Annotated[
    StacksChoice,
    typer.Option(
        help="Let snapshots have the guest's stacks, so that a resume begins there: it makes "
        "guests slower, and cannot be done to all."
    ),
]
SafePointsOption = Annotated[
    SafePointsChoice,
    typer.Option(
        help="Take snapshots where the guest calls its host, or also at its loops: slower, for "
        "guests that compute long."
    ),
]
DirtyPagesOption = Annotated[
    DirtyPagesChoice,
    typer.Option(help="How memory that has changed is found."),
]
PageIndexOption = Annotated[
    bool,
    typer.Option(
        "--page-index/--no-page-index",
        help="Name pages of memory that the journal has already, instead of giving them again.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotArguments:
    """What the options say; see them."""

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
        """Whether any is chosen."""
        return bool(self.on) or (self.period, self.events, self.size) != (None, None, None)


def build_snapshots(options: SnapshotArguments) -> "SnapshotOptions":
    """When and how the library is to take them; what the reference takes where nothing is said."""
    from journal import DirtyPageTracking, OptionError, SafePoints, SnapshotOptions, Stacks

    if options.none and (options.has_triggers or options.stop_after):
        raise typer.BadParameter("--no-snapshots does not go with options that want some")
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
    """The triggers, and the period of one of them; raises ``OptionError``."""
    from journal.events.snapshots import Trigger
    from journal.snapshots.triggers import DEFAULTS, PERIOD_SECONDS, TriggerState, parse_trigger

    on = set(DEFAULTS) if by_default else {parse_trigger(name) for name in options.on or ()}
    if options.period is not None:
        on.add(Trigger.PERIODIC_INTERVAL)
    period = PERIOD_SECONDS if options.period is None else options.period
    TriggerState(on, period_seconds=period, every_events=options.events, every_bytes=options.size)
    return frozenset(on), period
