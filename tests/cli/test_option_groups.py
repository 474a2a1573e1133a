"""Option groups: dataclasses whose fields are options of a command."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
import typer.testing
from journaltool.options import groups

CountOption = Annotated[int, typer.Option("--count", "-c", help="A number.")]
NameOption = Annotated[str, typer.Option(help="A name.")]


@dataclass(frozen=True)
class Pair:
    """Two options."""

    count: CountOption = 1
    name: NameOption = "none"


def run_pair(*arguments: str) -> typer.testing.Result:
    app = typer.Typer()

    def show(first: str, *, pair: Pair, last: bool = False) -> None:
        """Show the options."""
        print(first, pair, last)

    app.command()(groups.flatten(show))
    return typer.testing.CliRunner().invoke(app, arguments)


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("a",), "a Pair(count=1, name='none') False"),
        (("a", "-c", "2", "--name", "b", "--last"), "a Pair(count=2, name='b') True"),
    ],
)
def test_a_command_gets_the_options_of_a_group_as_one_value(
    arguments: tuple[str, ...], shown: str
) -> None:
    done = run_pair(*arguments)
    assert (done.exit_code, done.stdout.strip()) == (0, shown)


def test_the_options_of_a_group_keep_their_place_in_the_help() -> None:
    text = run_pair("--help").stdout
    assert text.index("-c") < text.index("--name") < text.index("--last")
    assert "A number." in text
