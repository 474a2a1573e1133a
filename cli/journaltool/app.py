"""The commands, put together."""

from typing import Annotated

import typer

from journaltool import inspect, resume, run

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich would take the brackets of HOST::GUEST[:ro] for its markup
)

_SETTINGS = {"max_content_width": 100, "help_option_names": ["-h", "--help"]}
_GUEST_SETTINGS = {**_SETTINGS, "allow_interspersed_args": False}


def _version(wanted: bool) -> None:
    if wanted:
        from journal import __version__

        typer.echo(f"journaltool {__version__}")
        raise typer.Exit


@app.callback(context_settings=_SETTINGS)
def _main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Record WebAssembly programs in journals, and bring them back exactly as they were."""


app.command(help=run.HELP, epilog=run.EPILOG, context_settings=_GUEST_SETTINGS)(run.run)
app.command(help=resume.HELP, epilog=resume.EPILOG, context_settings=_SETTINGS)(resume.resume)
app.command(help=inspect.HELP, epilog=inspect.EPILOG, context_settings=_SETTINGS)(inspect.inspect)
