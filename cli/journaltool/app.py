"""The typer application with all commands."""

from collections.abc import Callable
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
    fork,
    head,
    import_,
    index,
    info,
    inspect,
    keygen,
    prepare,
    recover,
    replay,
    resume,
    run,
    sign,
    snapshot,
    snapshots,
    split,
    stats,
    tail,
    trust,
    verify,
)
from journaltool.exit_codes import ExitCode
from journaltool.options import keys

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


def _accept_keys(name: str, function: Callable[..., None]) -> Callable[..., None]:
    """Return the function of a command with the options of keys that it needs."""
    code = ExitCode.REFUSED if name in ("run", "resume") else None
    if name in _WITHOUT_KEYS:
        return function
    group = keys.SealArguments if name in _SEALING else keys.KeyArguments
    reads_journals = name not in ("run", "import_")
    return keys.accept_keys(
        function,
        group,
        reads_journals=reads_journals,
        has_head=name in _CHECKING,
        code=code,
    )


_WITHOUT_KEYS = ("completion", "keygen", "prepare")
_CHECKING = (
    "resume",
    "check_resume",
    "trust",
    "replay",
    "snapshots",
    "inspect",
    "info",
    "stats",
    "verify",
    "recover",
    "split",
    "cut",
    "fork",
    "compact",
    "export",
    "extract",
)
_SEALING = ("run", "recover", "concat", "split", "cut", "filter", "compact", "import_")
app.command(help=run.HELP, epilog=run.EPILOG, context_settings=_GUEST_SETTINGS)(
    _accept_keys("run", run.run)
)
_READING = (snapshots, replay, inspect, tail, info, stats, index, verify, recover, head)
_MOVING = (concat, split, cut, fork, filter, compact, export, import_, extract)
_OTHERS = (sign, keygen, completion)
for _command in (resume, prepare, check_resume, trust, snapshot, *_READING, *_MOVING, *_OTHERS):
    _name = _command.__name__.rpartition(".")[2]
    # Python reserves the word import, so the function is called import_.
    app.command(
        _name.rstrip("_").replace("_", "-"),
        help=_command.HELP,
        epilog=_command.EPILOG,
        context_settings=_SETTINGS,
    )(_accept_keys(_name, getattr(_command, _name)))
