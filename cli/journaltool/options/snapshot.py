"""Options of the snapshots of a run."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

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


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotArguments:
    """Options of the snapshots of a run."""

    snapshot_on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Take a snapshot at this trigger. Repeatable. The defaults are idle, "
            "first-environ, first-listen, first-stdin and explicit (a request of the program).",
        ),
    ] = None
    snapshot_period: Annotated[
        float | None,
        typer.Option(
            parser=common.parse_seconds,
            metavar="SECONDS",
            help="Take a snapshot at this interval. The trigger periodic-interval alone uses 10.",
        ),
    ] = None
    snapshot_events: Annotated[
        int | None,
        typer.Option(
            click_type=common.Number(min=1),
            metavar="N",
            help="Take a snapshot every N recorded events.",
        ),
    ] = None
    snapshot_bytes: Annotated[
        int | None,
        common.size_option("Take a snapshot every time the journal grows by SIZE."),
    ] = None
    no_snapshots: Annotated[bool, typer.Option("--no-snapshots", help="Take no snapshots.")] = False
    stop_after_snapshot: Annotated[
        bool,
        typer.Option(
            "--stop-after-snapshot",
            help="Stop the program after the first snapshot, with exit code 0. It can be resumed.",
        ),
    ] = False
    stacks: Annotated[
        StacksChoice | None,
        typer.Option(
            show_default="auto",
            help="Save the stacks of the guest, so that a resume can start at the snapshot. This "
            "makes guests slower, and some modules do not support it.",
        ),
    ] = None
    safe_points: Annotated[
        SafePointsChoice | None,
        typer.Option(
            show_default="calls",
            help="Take snapshots at host calls, or also at loops. Loops make guests slower, but "
            "suit guests that compute for a long time without a host call.",
        ),
    ] = None
    dirty_pages: Annotated[
        DirtyPagesChoice,
        typer.Option(help="Find written memory pages with the kernel or by comparison."),
    ] = DirtyPagesChoice.AUTO
    page_index: Annotated[
        bool | None,
        typer.Option(
            show_default="no-page-index",
            help="Store a reference instead of a page that the journal already contains.",
        ),
    ] = None

    @property
    def _selects_triggers(self) -> bool:
        counts = (self.snapshot_period, self.snapshot_events, self.snapshot_bytes)
        return bool(self.snapshot_on) or counts != (None, None, None)

    def check(self) -> None:
        """Raise ``BadParameter`` for options that exclude one another."""
        if self.no_snapshots and (self._selects_triggers or self.stop_after_snapshot):
            raise typer.BadParameter("--no-snapshots excludes the options that take snapshots")

    def build(self, recorded: "SnapshotOptions | None" = None) -> "SnapshotOptions":
        """Return the options for the library. The default triggers are those of Wasmer.

        The options that are not given are those of ``recorded``, the recording to resume. Triggers
        that are given replace all of the recorded ones.
        """
        from journal.engine import DirtyPageTracking, SafePoints, SnapshotOptions, Stacks

        self.check()
        given: dict[str, Any] = {
            "stacks": self.stacks and Stacks(self.stacks.value),
            "safe_points": self.safe_points and SafePoints(self.safe_points.value),
            "page_index": self.page_index,
        }
        return replace(
            self._build_triggers(recorded or SnapshotOptions(by_default=True)),
            **{name: value for name, value in given.items() if value is not None},
            dirty_page_tracking=DirtyPageTracking(self.dirty_pages.value),
            stop_after=self.stop_after_snapshot,
        )

    def _build_triggers(self, recorded: "SnapshotOptions") -> "SnapshotOptions":
        """Return ``recorded`` with the selected triggers."""
        from journal import OptionError
        from journal.snapshots.triggers import DEFAULTS

        if self.no_snapshots or self._selects_triggers:
            try:
                on, period = _parse_triggers(self)
            except OptionError as error:
                raise typer.BadParameter(str(error)) from None
            return replace(
                recorded,
                on=on,
                period_seconds=period,
                every_events=self.snapshot_events,
                every_bytes=self.snapshot_bytes,
                by_default=False,
            )
        return replace(recorded, on=frozenset(DEFAULTS)) if recorded.by_default else recorded


def _parse_triggers(options: SnapshotArguments) -> "tuple[frozenset[Trigger], float]":
    """Return the triggers and the period in seconds, or raise ``OptionError``."""
    from journal.events.snapshots import Trigger
    from journal.snapshots.triggers import PERIOD_SECONDS, TriggerState, parse_trigger

    on = set(map(parse_trigger, options.snapshot_on or ()))
    if options.snapshot_period is not None:
        on.add(Trigger.PERIODIC_INTERVAL)
    period = PERIOD_SECONDS if options.snapshot_period is None else options.snapshot_period
    TriggerState(
        on,
        period_seconds=period,
        every_events=options.snapshot_events,
        every_bytes=options.snapshot_bytes,
    )
    return frozenset(on), period
