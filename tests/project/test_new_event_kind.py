"""A new kind of event: its declaration and its effect suffice, and a contradiction is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import construct as cs
import pytest

from journal.events import BY_TAG
from journal.events.definition import (
    Closes,
    Consumed,
    Event,
    Group,
    Keep,
    Latest,
    Marks,
    Merged,
    Needed,
    Opens,
    Pinned,
    Resets,
    Rewritten,
    Role,
    Rule,
    Staged,
    event,
    key_size,
)
from journal.events.wire_types import BLOB, U8, ListOf, OptionalOf, Secret, Text, TupleOf
from tests.support.build_trees import copy_build_tree
from tests.support.new_kinds import DECLARATIONS, EFFECTS, IMPORTS, USES
from tests.support.programs import ROOT

# -- a whole kind ---------------------------------------------------------------------------------


def copy_library(folder: Path, *, effects: bool = True, declarations: str = "") -> Path:
    """Return a copy of the library that declares the invented kinds, or other ``declarations``."""
    tree = copy_build_tree(folder / "tree")
    added = {"core": declarations} if declarations else DECLARATIONS
    for family, text in added.items():
        with (tree / f"journal/events/{family}.py").open("a", encoding="utf-8") as file:
            file.write(IMPORTS + text)
    for family, text in EFFECTS.items() if effects else ():
        with (tree / f"journal/replay/effects/{family}.py").open("a", encoding="utf-8") as file:
            file.write(text)
    return tree


def run_python(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the library of ``tree``, and the helpers of the tests."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": f"{tree}:{ROOT}"},
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the library with the invented kinds."""
    return copy_library(tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="module")
def failures(tree: Path) -> dict[str, str]:
    """The tracebacks of the uses that fail, by name."""
    done = run_python(tree, "-m", "tests.support.new_kinds")
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("use", USES)
def test_a_kind_needs_only_its_declaration_and_its_effect(
    use: str, failures: dict[str, str]
) -> None:
    assert use not in failures, failures[use]


def test_every_role_and_rule_is_tried() -> None:
    """The invented kinds have every role, and every rule that a new kind can have by itself."""
    text = "".join(DECLARATIONS.values())
    assert all(f"Role.{role.name}" in text for role in Role)
    rules = (Consumed, Keep, Latest, Merged, Needed, Opens, Staged)
    assert all(f"rule={rule.__name__}(" in text for rule in rules)


def test_a_kind_without_an_effect_is_refused_at_import(tmp_path: Path) -> None:
    tree = copy_library(tmp_path, effects=False)
    assert run_python(tree, "-c", "import journal.events").returncode == 0
    done = run_python(tree, "-c", "import journal.replay")
    assert "no effect is registered for" in done.stderr
    assert "HeaderReplaced" in done.stderr


def test_two_kinds_with_one_tag_are_refused_at_import(tmp_path: Path) -> None:
    text = DECLARATIONS["core"].replace("212", str(next(iter(BY_TAG))))
    done = run_python(copy_library(tmp_path, declarations=text), "-c", "import journal.events")
    assert "two events share a tag" in done.stderr


# -- declarations ---------------------------------------------------------------------------------


def declare(**changes: Any) -> type[Event]:
    """Return a new kind with a correct declaration, except for ``changes``."""
    correct: dict[str, Any] = {
        "tag": 200,
        "group": Group.CORE,
        "role": Role.EFFECT,
        "rule": Keep(),
    }

    @event(**correct | changes)
    class Example(Event):
        """A new kind of event."""

        number: U8
        name: Text
        size: U8

    return Example


@pytest.mark.parametrize("missing", ["tag", "group", "role", "rule"])
def test_a_declaration_lacks_nothing(missing: str) -> None:
    declaration: dict[str, Any] = {
        "tag": 200,
        "group": Group.CORE,
        "role": Role.EFFECT,
        "rule": Keep(),
    }
    del declaration[missing]
    with pytest.raises(TypeError, match=f"'{missing}'"):
        event(**declaration)


@pytest.mark.parametrize(
    ("name", "value"), [("group", "core"), ("role", None), ("role", Group.CORE), ("rule", Keep)]
)
def test_a_declaration_has_the_right_types(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"Example needs a {name}, got"):
        declare(**{name: value})


RULES: tuple[Rule, ...] = (
    *(Keep(), Pinned(), Resets(), Latest(), Needed(), Opens(), Closes("number"), Consumed()),
    *(Staged(), Merged(), Marks(), Rewritten()),
)
POSSIBLE: dict[Role, set[str]] = {
    Role.PREAMBLE: {"Keep", "Pinned", "Resets"},
    Role.RECORDING: {"Keep", "Latest", "Staged", "Merged", "Marks", "Rewritten"},
    Role.EFFECT: {
        *("Keep", "Pinned", "Resets", "Latest", "Staged", "Needed", "Opens", "Closes"),
    },
    Role.INPUT: {"Consumed", "Needed", "Opens", "Closes", "Keep"},
}

REASONS = {
    Role.PREAMBLE: "a resume needs the whole preamble",
    Role.RECORDING: "a replay skips the event",
    Role.EFFECT: "the guest causes the event",
    Role.INPUT: "a snapshot supersedes an input",
}


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_a_rule_that_contradicts_the_role_is_refused(role: Role, rule: Rule) -> None:
    group = Group.INPUTS if role is Role.INPUT else Group.FILES
    if type(rule).__name__ in POSSIBLE[role]:
        kind = declare(role=role, rule=rule, group=group)
        assert (kind.role, kind.rule) == (role, rule)
        return
    with pytest.raises(TypeError, match=f"{type(rule).__name__}: {REASONS[role]}"):
        declare(role=role, rule=rule, group=group)


@pytest.mark.parametrize("group", Group)
def test_a_group_that_contradicts_role_or_rule_is_refused(group: Group) -> None:
    if group is Group.INPUTS:
        with pytest.raises(TypeError, match="must drop all inputs and nothing else"):
            declare(group=group)
        return
    assert declare(group=group).group is group
    with pytest.raises(TypeError, match="must drop all inputs and nothing else"):
        declare(group=group, role=Role.INPUT, rule=Consumed())
    if group in (Group.FILES, Group.SOCKETS):
        assert declare(group=group, rule=Needed()).group is group
    else:
        with pytest.raises(TypeError, match="only states of files and descriptors are analysed"):
            declare(group=group, rule=Needed())


@pytest.mark.parametrize("key", [("name",), ("size",), ("number", "name"), ("other",)])
def test_a_key_is_a_beginning_of_fixed_size(key: tuple[str, ...]) -> None:
    assert key_size(declare(rule=Latest(("number",)))) == 1
    with pytest.raises(TypeError, match="a key consists of the first fields"):
        declare(rule=Latest(key))


@pytest.mark.parametrize(
    "construct",
    [BLOB, cs.Bytes(4), ListOf(BLOB), OptionalOf(BLOB), ListOf(TupleOf(cs.Int8ul, cs.Bytes(4)))],
)
def test_bytes_say_whether_they_are_secret(construct: cs.Construct) -> None:
    for secret in (None, Secret.FILES):

        @event(tag=210, group=Group.CORE, role=Role.EFFECT, rule=Keep())
        class Said(Event):
            """An event with bytes that say whether they are secret."""

            data: Annotated[bytes, construct, secret]

        assert Said.secrets == ({"data": secret} if secret else {})
    with pytest.raises(TypeError, match=r"Unsaid\.data holds bytes"):

        @event(tag=210, group=Group.CORE, role=Role.EFFECT, rule=Keep())
        class Unsaid(Event):
            """An event with bytes that do not say whether they are secret."""

            data: Annotated[bytes, construct]
