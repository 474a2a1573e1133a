"""``journaltool prepare``: instrument and compile modules before their first run."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from journaltool import error_report, exit_codes
from journaltool.commands.run import LimitArguments
from journaltool.options import common, groups, session
from journaltool.options.snapshot import SafePointsChoice, StacksChoice
from journaltool.output import progress, terminal

if TYPE_CHECKING:
    from journal.engine import (
        Configuration,
        InstanceAllocationStrategy,
        ModulePreparation,
        SnapshotOptions,
    )

HELP = """Instrument and compile programs into the cache, before they run.

The first run of a program compiles it, and the first run with snapshots also instruments it. This
command does both ahead of time, so that journaltool run and resume start at once. What the cache
already has is not done again.

The options are those of journaltool run that change the result. Pass the same.
"""

EPILOG = f"""\b
Exit codes:
{exit_codes.list_codes("prepare")}

\b
Examples:
  journaltool prepare hello.wasm
  journaltool prepare --no-snapshots hello.wasm tool.wasm
  journaltool prepare --safe-points loops --max-memory 256MiB python.wasm
"""

ModulesArgument = Annotated[
    list[Path], typer.Argument(metavar="MODULES...", help="The programs: .wasm files.")
]
NoSnapshotsOption = Annotated[
    bool, typer.Option("--no-snapshots", help="Prepare only for runs without snapshots.")
]
StacksOption = Annotated[
    StacksChoice, typer.Option(help="Prepare for snapshots with the stacks of the guest.")
]
SafePointsOption = Annotated[
    SafePointsChoice, typer.Option(help="Prepare for snapshots at host calls, or also at loops.")
]


@groups.flatten
def prepare(
    modules: ModulesArgument,
    *,
    no_snapshots: NoSnapshotsOption = False,
    stacks: StacksOption = StacksChoice.AUTO,
    safe_points: SafePointsOption = SafePointsChoice.CALLS,
    limits: LimitArguments,
    allocation: session.AllocationOption = "on-demand",
    quiet: common.QuietOption = False,
    as_json: common.JsonOption = False,
) -> None:
    """Prepare programs (the help text is HELP)."""
    with error_report.reporting_errors():
        from journal.engine import SafePoints, SnapshotOptions, Stacks, parse_allocation

        error_report.die_on_sigint()
        uses = [SnapshotOptions()]
        if not no_snapshots:
            with_snapshots = SnapshotOptions(
                every_events=1,  # Any trigger has the same effect.
                stacks=Stacks(stacks.value),
                safe_points=SafePoints(safe_points.value),
            )
            uses.append(with_snapshots)
        configuration, strategy = limits.build(), parse_allocation(allocation)
        reports = [
            _prepare(module, uses, configuration, strategy, quiet, as_json) for module in modules
        ]
        if as_json:
            cache = reports[0]["prepared"][0]["code"]
            values = {"cache": str(Path(cache).parent), "modules": reports}
            typer.echo(json.dumps(values, indent=2))


def _prepare(
    module: Path,
    uses: "list[SnapshotOptions]",
    configuration: "Configuration",
    allocation: "InstanceAllocationStrategy",
    quiet: bool,
    as_json: bool,
) -> dict[str, Any]:
    """Prepare a module for each use, print the result, and return it as JSON values."""
    from journal.engine import prepare_module

    with progress.show_progress(quiet) as on_progress:
        found = [
            prepare_module(
                module,
                snapshots=use,
                configuration=configuration,
                cache=common.module_cache(),
                allocation=allocation,
                note=terminal.make_note_printer(quiet),
                progress=on_progress,
            )
            for use in uses
        ]
    values = {
        "module": str(module),
        "sha256": found[0].hash.hex(),
        "size": found[0].size,
        "prepared": [
            {"snapshots": use.is_enabled, **to_json(one)}
            for use, one in zip(uses, found, strict=True)
        ],
    }
    if not (quiet or as_json):
        terminal.print_table(to_table(values))
    return values


def to_json(one: "ModulePreparation") -> dict[str, Any]:
    """Return the preparation for one use as JSON values."""
    return {
        "tool": one.tool,
        "reason": one.reason,
        "instrumented_size": one.instrumented_size,
        "instrument_seconds": round(one.instrument_seconds, 6),
        "code": str(one.code),
        "code_size": one.code_size,
        "compile_seconds": round(one.compile_seconds, 6),
    }


def to_table(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the rows of the table of one module."""
    from journaltool.output.memory_format import format_size

    rows = [("module", f"{terminal.quote(values['module'])}, {format_size(values['size'])}")]
    for one in values["prepared"]:
        work = [f"{_describe_work('compiled', one['compile_seconds'])}, "]
        work.append(format_size(one["code_size"]))
        if one["tool"]:
            seconds, size = one["instrument_seconds"], format_size(one["instrumented_size"])
            work.insert(0, f"{_describe_work('instrumented', seconds)} by {one['tool']}, {size}; ")
        rows.append(("with snapshots" if one["snapshots"] else "without", "".join(work)))
    return [*rows, ("cache", terminal.quote(str(Path(values["prepared"][0]["code"]).parent)))]


def _describe_work(what: str, seconds: float) -> str:
    if not seconds:
        return f"{what} earlier"
    return f"{what} in {terminal.format_seconds(round(seconds, 2))}"
