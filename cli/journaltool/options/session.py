"""Options of run and resume."""

from collections.abc import Mapping
from enum import StrEnum
from signal import Signals
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journaltool.options import common
from journaltool.output import progress, terminal

if TYPE_CHECKING:
    from journal.compaction import CompactionSchedule
    from journal.engine import NetworkPolicy, RunConfig, SnapshotOptions


class DurabilityChoice(StrEnum):
    """Values of ``journal.engine.Durability``, which is slow to import."""

    NONE = "none"
    INTERVAL = "interval"
    OUTPUT = "output"


DurabilityOption = Annotated[
    DurabilityChoice,
    typer.Option(
        help="Deliver output after its events are durable (output), or at once, with a sync every "
        "second (interval) or only at the end (none)."
    ),
]
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        parser=common.parse_seconds,
        metavar="SECONDS",
        help="Stop the guest after this time with exit code 124. Its start may take as long, and "
        "at least 10 seconds.",
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON object on stderr at the end.")
]


ForwardOption = Annotated[
    str | None,
    typer.Option(
        "--forward-signals",
        metavar="NAMES",
        help="Send these signals to the guest if it has a handler: names such as INT,TERM,HUP. "
        "Otherwise they do the same as without the option.",
    ),
]

FORWARDED_SIGNALS = tuple(
    Signals[f"SIG{name}"]
    for name in (
        *("HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "TERM"),
        *("CONT", "TSTP", "VTALRM", "PROF", "WINCH"),
    )
)
"""Signals that can be forwarded."""


def parse_signals(names: str | None) -> frozenset[Signals]:
    """Return the signals with these names, with or without SIG, separated by commas."""
    found = set()
    for name in (names or "").split(",") if names is not None else ():
        bare = name.strip().upper().removeprefix("SIG")
        signal = getattr(Signals, f"SIG{bare}", None)
        if signal not in FORWARDED_SIGNALS:
            known = ", ".join(each.name.removeprefix("SIG") for each in FORWARDED_SIGNALS)
            raise typer.BadParameter(
                f"--forward-signals cannot forward {name[:40]!r}; it can forward {known}"
            )
        found.add(signal)
    return frozenset(found)


AllocationOption = Annotated[
    str,
    typer.Option(
        metavar="STRATEGY",
        help="Let wasmtime allocate on-demand, or from a pool: pooling, or "
        "pooling:total_memories=10,max_memory_size=64MiB and other options of "
        "journal.engine.Pooling.",
    ),
]


def build_config(
    durability: DurabilityChoice,
    net: "NetworkPolicy | None",
    snapshots: "SnapshotOptions",
    schedule: "CompactionSchedule | None",
    quiet: bool,
    report: progress.ProgressCallback,
    allocation: str,
    process_options: Mapping[str, Any],
) -> "RunConfig":
    """Return the configuration of a guest that uses the standard streams of this process."""
    from journal.engine import Durability, RunConfig, parse_allocation

    return RunConfig(
        stdin=0,
        stdout=1,
        stderr=2,
        durability=Durability(durability.value),
        cache=common.module_cache(),
        approvals=common.approvals_directory(),
        network=net,
        snapshots=snapshots,
        compaction=schedule,
        allocation=parse_allocation(allocation),
        note=terminal.make_note_printer(quiet),
        progress=report,
        **process_options,
    )
