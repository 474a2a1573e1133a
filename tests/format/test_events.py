"""Rules for every kind of event, and the golden payloads, which never change."""

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import construct as cs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal.events import BY_TAG, FAMILIES, codec, descriptors, ports, snapshots
from journal.events.definition import (
    Event,
    Group,
    Keep,
    Role,
    Rule,
    event,
    field_dict,
    field_names,
    field_values,
)
from journal.events.wire_types import U8, Text
from tests.support.strategies import every_event

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "fixtures" / "events"
KINDS = [pytest.param(cls, id=cls.__name__) for cls in BY_TAG.values()]
REFERENCE_TAGS = set(range(1, 65)) - {8}
OWN_TAGS = {
    *range(128, 143),
    150,
    160,
    161,
    162,
    *range(170, 184),
    190,
    *range(192, 200),
    200,
    201,
    202,
    *range(204, 209),
}


def test_the_format_has_all_kinds_of_the_reference_and_its_own() -> None:
    assert set(BY_TAG) == REFERENCE_TAGS | OWN_TAGS


def test_every_kind_is_in_the_module_of_its_family() -> None:
    assert {cls.__module__ for cls in BY_TAG.values()} == {family.__name__ for family in FAMILIES}


@pytest.mark.parametrize("cls", KINDS)
def test_every_kind_is_described(cls: type[Event]) -> None:
    assert cls.__doc__
    assert cls.__doc__.split("\n")[0].strip()
    assert isinstance(cls.group, Group)
    assert isinstance(cls.role, Role)
    assert isinstance(cls.rule, Rule)
    assert cls.names == cls.__slots__ == field_names(cls)
    assert cls.__name__ == cls.__qualname__


@pytest.mark.parametrize("cls", KINDS)
def test_every_rule_names_existing_fields(cls: type[Event]) -> None:
    assert is_dataclass(cls.rule)
    for part in fields(cls.rule):
        named_fields = getattr(cls.rule, part.name)
        assert set([named_fields] if isinstance(named_fields, str) else named_fields) <= set(
            cls.names
        )


@given(every_event())
def test_an_event_is_frozen_and_takes_no_other_attribute(event: Event) -> None:
    for name in (*event.names, "another"):
        with pytest.raises(AttributeError, match="frozen"):
            setattr(event, name, 0)
        with pytest.raises(AttributeError, match="frozen"):
            delattr(event, name)
    assert not hasattr(event, "__dict__")


@given(every_event())
def test_an_event_is_built_by_keyword_only(event: Event) -> None:
    make: Callable[..., Event] = type(event)
    assert make(**field_dict(event)) == event
    with pytest.raises(TypeError):
        make(0, **field_dict(event))


@given(every_event())
def test_equal_events_have_equal_hashes_and_copies_are_equal(event: Event) -> None:
    for twin in (copy.copy(event), copy.deepcopy(event), pickle.loads(pickle.dumps(event))):
        assert twin == event
        assert type(twin) is type(event)
        assert hash(twin) == hash(event)


@given(every_event(), every_event())
def test_events_of_different_kinds_are_never_equal(one: Event, other: Event) -> None:
    if type(one) is not type(other):
        assert one != other
    assert (one == other) == (codec.encode(one) == codec.encode(other) and one.tag == other.tag)


def test_equal_fields_do_not_make_different_kinds_equal() -> None:
    assert ports.PortAddrClear() != ports.PortUnbridge()
    closed = descriptors.CloseFileDescriptor(fd=3)
    assert closed != descriptors.EpollCreate(fd=3)
    assert closed != (3,)
    assert len({closed, descriptors.EpollCreate(fd=3), descriptors.CloseFileDescriptor(fd=3)}) == 2


def test_a_field_may_have_a_default() -> None:
    snapshot = snapshots.Snapshot(when=1, trigger=snapshots.Trigger.EXPLICIT)
    assert field_values(snapshot) == (1, snapshots.Trigger.EXPLICIT, b"")
    with pytest.raises(TypeError, match="trigger"):
        snapshots.Snapshot(when=1)  # type: ignore[call-arg]


def test_a_repr_reads_like_the_call_that_makes_the_event() -> None:
    snapshot = snapshots.Snapshot(when=1, trigger=snapshots.Trigger.EXPLICIT)
    assert repr(snapshot) == "Snapshot(when=1, trigger=Trigger.EXPLICIT, digest=b'')"


def test_a_repr_cuts_long_values() -> None:
    written = descriptors.FileDescriptorWrite(fd=1, offset=0, data=b"a" * 5000)
    assert "data=<5000 bytes: b'aaa" in repr(written)
    assert len(repr(written)) < 200


def test_a_field_that_is_no_wire_type_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Vague\.number has no wire type"):

        @event(tag=219, group=Group.CORE, role=Role.EFFECT, rule=Keep())
        class Vague(Event):
            """A class with a field without a wire type."""

            number: int


@given(st.integers(0, 255), st.text())
def test_a_kind_is_declared_in_a_few_lines(number: int, name: str) -> None:
    @event(tag=219, group=Group.CORE, role=Role.EFFECT, rule=Keep())
    class Example(Event):
        """A new kind of event."""

        version: ClassVar[int] = 1
        number: U8
        size: Annotated[int, cs.Int16ul] = 7
        name: Text

    example = Example(number=number, name=name)
    encoded = name.encode()
    payload = bytes([number]) + b"\x07\x00" + len(encoded).to_bytes(4, "little") + encoded
    assert codec.encode(example) == payload
    assert codec.make_unpacker(Example)(payload) == (number, 7, name)


def golden(path: Path) -> list[tuple[str, bytes]]:
    """Return the repr and the payload of each event in a golden file."""
    pairs = []
    for block in path.read_text(encoding="utf-8").strip("\n").split("\n\n"):
        line, *payload = block.split("\n")
        pairs.append((line, bytes.fromhex("".join(payload))))
    return pairs


@pytest.mark.parametrize("cls", KINDS)
def test_golden_payloads_never_change(cls: type[Event]) -> None:
    (path,) = FIXTURES.glob(f"{cls.tag:03}-*.txt")
    for line, payload in golden(path):
        event = codec.decode(cls.tag, payload)
        assert repr(event) == line
        assert codec.encode(event) == payload


def test_golden_files_are_what_the_script_writes() -> None:
    script = ROOT / "fixtures" / "regenerate_events.py"
    subprocess.run([sys.executable, script, "--check"], check=True)
