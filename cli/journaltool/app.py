"""The typer application with all commands."""

from typing import Annotated

import typer

from journaltool.commands import (
    check_resume,
    compact,
    completion,
    concat,
    cut,
    export,
    extract,
    filter,
    import_,
    index,
    info,
    inspect,
    prepare,
    recover,
    replay,
    resume,
    run,
    snapshot,
    snapshots,
    split,
    stats,
    tail,
    trust,
    verify,
)

app = typer.Typer(
    add_completion=False,  # The completion command replaces two options in each help text.
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich would read the brackets of HOST::GUEST[:ro] as markup.
)

HELP = """Record WebAssembly programs in journals, and resume them exactly where they stopped."""

EPILOG = """\b
Examples:
  journaltool run hello.wasm
  journaltool resume hello.journal
  journaltool info hello.journal

The help of each command lists its exit codes.
"""

_SETTINGS = {"max_content_width": 100, "help_option_names": ["-h", "--help"]}
_GUEST_SETTINGS = {**_SETTINGS, "allow_interspersed_args": False}


def _print_version(is_requested: bool) -> None:
    if is_requested:
        from journal._version import VERSION

        typer.echo(f"journaltool {VERSION}")
        raise typer.Exit


@app.callback(help=HELP, epilog=EPILOG, context_settings=_SETTINGS)
def _main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Accept the options before a command."""


app.command(help=run.HELP, epilog=run.EPILOG, context_settings=_GUEST_SETTINGS)(run.run)
_READING = (snapshots, replay, inspect, tail, info, stats, index, verify, recover)
_MOVING = (concat, split, cut, filter, compact, export, import_, extract, completion)
for _command in (resume, prepare, check_resume, trust, snapshot, *_READING, *_MOVING):
    _name = _command.__name__.rpartition(".")[2]
    # Python reserves the word import, so the function is called import_.
    app.command(
        _name.rstrip("_").replace("_", "-"),
        help=_command.HELP,
        epilog=_command.EPILOG,
        context_settings=_SETTINGS,
    )(getattr(_command, _name))
