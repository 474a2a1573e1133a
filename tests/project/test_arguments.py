"""Arguments of all public calls: a wrong value gets a sentence, and changes no file.

The calls are found in the packages, so that a new public function is covered.
"""

from __future__ import annotations

from contextlib import suppress
from enum import Enum
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

import journal
from journal.errors import JournalError, OptionError
from tests.support.public_calls import (
    ALWAYS_REFUSED,
    NOT_CALLED,
    ROOMS,
    PublicCall,
    World,
    close_all,
    find_calls,
)
from tests.support.signatures import fits

HAS_ARROW = find_spec("pyarrow") is not None

OWN_ERRORS: dict[str, type[Exception]] = {"Reader.frame": KeyError}
"""Documented errors of Python."""
CALLS = find_calls()
CALLED = [call for call in CALLS if call.name not in NOT_CALLED]


class Foreign(Enum):
    """An enum that no option has."""

    MEMBER = "member"


class Callback:
    """A class that accepts any call."""

    def __init__(self, *_: object) -> None:
        pass


def nested_list(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


def wrong_values(world: World) -> dict[str, Any]:
    """Return values that fit few parameters. A generator is new for each call."""
    reader = journal.Reader(world / "plain.journal")
    writer = journal.Writer(world / "closed.journal")
    file = (world / "lines.json").open("rb")
    for each in (reader, writer, file):
        each.close()
    return {
        "None": None,
        "a text": "text",
        "an empty text": "",
        "a text with NUL": "a\0b",
        "a lone surrogate": "\ud800",
        "the name of a mode": "strict",
        "bytes": b"bytes",
        "an empty list": [],
        "a list of None": [None],
        "a list of texts": ["x"],
        "a list in lists": nested_list(5000),
        "a negative number in a set": {-1},
        "a dictionary": {"a": None},
        "an object": object(),
        "a class": Callback,
        "a function": lambda *_: None,
        "NaN": float("nan"),
        "infinity": float("inf"),
        "a fraction": 1.5,
        "0": 0,
        "-1": -1,
        "2**70": 1 << 70,
        "-2**70": -(1 << 70),
        "2**20000": 1 << 20_000,
        "True": True,
        "a foreign enum": Foreign.MEMBER,
        "a text file": StringIO("text"),
        "a closed file": file,
        "a closed reader": reader,
        "a closed writer": writer,
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("arguments"))


@pytest.fixture
def _inside(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let relative paths lead into the world, and use no cache of another test."""
    world.restore()
    monkeypatch.setenv("XDG_CACHE_HOME", str(world.folder.parent / "cache"))
    monkeypatch.chdir(world.folder)


def find_fault(
    call: PublicCall, name: str, value: Any, owner: Any, world: World
) -> tuple[str, bool]:
    """Make a call with one wrong argument.

    Return what is wrong with its end, and whether it was refused as it should be.
    """
    arguments = call.make_arguments(world, without=name)
    world.remember()
    try:
        call.make(owner, arguments | {name: value})
    except JournalError as error:
        if "\n" in str(error) or len(str(error)) > 400:
            return f"has a long message: {error}", False
        return ("changed a file", False) if world.has_changed() else ("", True)
    except OSError as error:  # A path of a file that does not exist, for example.
        return repr(error) if isinstance(error, ValueError) or world.has_changed() else "", False
    except Exception as error:
        is_documented = isinstance(error, OWN_ERRORS.get(call.name, ()))
        return "" if is_documented else f"{type(error).__name__}: {str(error)[:80]}", False
    finally:
        close_all(arguments.values())
    return "" if fits(value, call.hints.get(name, Any)) else "is accepted", False


@pytest.mark.usefixtures("_inside")
@pytest.mark.parametrize("room", ROOMS)
def test_a_wrong_value_gets_a_sentence_and_changes_nothing(room: str, world: World) -> None:
    wrong = wrong_values(world)
    faults = []
    for call in CALLED:
        if call.room != room:
            continue
        for parameter in call.parameters:
            owner = None
            for label, value in wrong.items():
                owner = call.make_owner(world) if owner is None else owner
                fault, is_refused = find_fault(call, parameter.name, value, owner, world)
                if fault:
                    faults.append(f"{call.name}({parameter.name}={label}) {fault}")
                if not is_refused:
                    close_all([owner])
                    owner = None
                    world.restore()
            close_all([owner])
            world.restore()
    assert faults == []


@pytest.mark.usefixtures("_inside")
@pytest.mark.parametrize("room", ROOMS)
def test_the_arguments_that_wrong_values_replace_are_accepted(room: str, world: World) -> None:
    for call in CALLED:
        if call.room == room:
            owner, arguments = call.make_owner(world), call.make_arguments(world)
            needs_arrow = call.name.endswith("parquet") and not HAS_ARROW
            if needs_arrow or call.name in ALWAYS_REFUSED:
                with pytest.raises(OptionError):
                    call.make(owner, arguments)
            else:
                call.make(owner, arguments)
            close_all([owner, *arguments.values()])
            world.restore()


@pytest.mark.usefixtures("_inside")
@pytest.mark.parametrize("room", ROOMS)
def test_a_closed_object_answers_or_gets_a_sentence(room: str, world: World) -> None:
    for call in CALLED:
        if call.room == room and call.is_method and hasattr(call.owner, "close"):
            owner, arguments = call.make_owner(world), call.make_arguments(world)
            owner.close()
            with suppress(JournalError):
                call.make(owner, arguments)
            close_all(arguments.values())
            world.restore()


@pytest.mark.usefixtures("_inside")
def test_an_enum_accepts_its_value(world: World) -> None:
    checked = 0
    for call in CALLED:
        for parameter in call.parameters:
            kind = call.hints.get(parameter.name)
            if isinstance(kind, type) and issubclass(kind, Enum):
                checked += 1
                for member in list(kind)[:2]:
                    results = []
                    for value in (member, member.value):
                        owner, arguments = call.make_owner(world), call.make_arguments(world)
                        try:
                            call.make(owner, arguments | {parameter.name: value})
                            results.append("")
                        except JournalError as error:
                            results.append(str(error))
                        close_all([owner, *arguments.values()])
                        world.restore()
                    assert results[0] == results[1], (call.name, member)
    assert checked > 5


def test_each_exception_from_the_test_exists() -> None:
    names = {call.name for call in CALLS}
    assert sorted({*NOT_CALLED, *ALWAYS_REFUSED, *OWN_ERRORS} - names) == []


def test_each_package_with_public_names_is_checked_or_internal() -> None:
    internal = {"journal.format", "journal.vfs"}
    """Their objects are made by the library, and their methods are called in its inner loops."""
    found = set()
    for path in Path(journal.__file__).parent.glob("*/__init__.py"):
        if "__all__" in path.read_text():
            found.add(f"journal.{path.parent.name}")
    assert found - internal == set(ROOMS) - {"journal"}
