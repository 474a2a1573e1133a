"""What a question about events can speak of: their fields, and what every event has.

Each field of each kind is of a type that says what it can be compared with. Where a field has
several values, a comparison holds when it holds for any of them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum, IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Any, NamedTuple, get_args, get_type_hints

from journal.events import BY_TAG
from journal.events.definition import Event, Group
from journal.format.frame import TAG_MAX, TAG_MIN

TAGS = range(TAG_MIN, TAG_MAX + 1)


class Kind(Enum):
    """The types of what can be compared."""

    NUMBER = "a number"
    FLAG = "true or false"
    TEXT = "text"
    BYTES = "bytes"
    MEMBER = "one of a few names"
    ADDRESS = "an address"
    TIME = "a time"


class Operand(NamedTuple):
    """A field of one kind of event, or what every event has.

    ``get`` gives its value of the values of an event, or several if ``is_many``. ``members`` are
    the names that a MEMBER can have. ``is_optional`` says that there may be none.
    """

    kind: Kind
    get: Callable[[Any], Any]
    is_many: bool = False
    is_optional: bool = False
    members: type[IntEnum] | None = None


_ADDRESSES = {IPv4Address, IPv6Address}
_PLAIN = {int: Kind.NUMBER, bool: Kind.FLAG, str: Kind.TEXT, bytes: Kind.BYTES}

TIME, SEQ, SIZE = "time", "seq", "size"
KIND, GROUP, TAG = "kind", "group", "tag"
PATH, DESCRIPTOR = "path", "descriptor"
EVERY = (SEQ, TIME, KIND, GROUP, TAG, SIZE, PATH, DESCRIPTOR)
"""What every event has. A field of such a name has a dot in front: ``.size``."""


def _operands_of(cls: type[Event]) -> Iterator[tuple[str, Operand]]:
    hints = get_type_hints(cls, include_extras=True)
    for index, name in enumerate(cls.names):
        base = get_args(hints[name])[0]
        yield from _parts(name, base, _at(index))


def _parts(name: str, base: Any, get: Callable[[Any], Any]) -> Iterator[tuple[str, Operand]]:
    """A field, and in a record its parts."""
    options = {each for each in get_args(base) if each is not type(None)}
    is_optional = type(None) in get_args(base)
    if get_args(base) and options <= _ADDRESSES:
        yield name, Operand(Kind.ADDRESS, get)
    elif is_optional and len(options) == 1:
        for part, operand in _parts(name, options.pop(), get):
            found = operand._replace(is_optional=True)
            yield part, found if part == name else found._replace(get=_unless_none(get, part, name))
    elif base in _PLAIN:
        yield name, Operand(_PLAIN[base], get)
    elif base in _ADDRESSES:
        yield name, Operand(Kind.ADDRESS, get)
    elif isinstance(base, type) and issubclass(base, IntEnum):
        yield name, Operand(Kind.MEMBER, get, members=base)
    elif isinstance(base, type) and is_dataclass(base):
        hints = get_type_hints(base)
        for each in fields(base):
            attribute = _part(get, each.name)
            yield from _parts(f"{name}.{each.name}", hints[each.name], attribute)
    elif (items := get_args(base)) and items[0] in _PLAIN:
        yield name, Operand(_PLAIN[items[0]], get, is_many=True)


def _at(index: int) -> Callable[[Any], Any]:
    return lambda values: values[index]


def _part(get: Callable[[Any], Any], name: str) -> Callable[[Any], Any]:
    return lambda values: getattr(get(values), name)


def _unless_none(get: Callable[[Any], Any], part: str, name: str) -> Callable[[Any], Any]:
    attribute = part.removeprefix(f"{name}.")
    return lambda values: None if get(values) is None else getattr(get(values), attribute)


FIELDS: dict[str, dict[int, Operand]] = {}
"""By name and tag."""

for _tag, _cls in BY_TAG.items():
    for _name, _operand in _operands_of(_cls):
        FIELDS.setdefault(_name, {})[_tag] = _operand

KINDS = {cls.__name__: tag for tag, cls in BY_TAG.items()}
ALIASES = {
    "mem": Group.MEMORY,
    "thread": Group.THREADS,
    "file": Group.FILES,
    "fs": Group.FILES,
    "filesystem": Group.FILES,
    "file-system": Group.FILES,
    "snap": Group.SNAPSHOTS,
    "snapshot": Group.SNAPSHOTS,
    "net": Group.SOCKETS,
    "network": Group.SOCKETS,
    "networking": Group.SOCKETS,
}
"""The names that Wasmer's journal has for groups."""

GROUPS = {group.value: group for group in Group} | ALIASES


def is_known(name: str) -> bool:
    """Whether there is anything of this name, as an expression has it."""
    return name in EVERY or name.removeprefix(".") in FIELDS


def names() -> list[str]:
    """Everything that an expression can speak of."""
    return [*EVERY, *(f".{name}" if name in EVERY else name for name in sorted(FIELDS))]


@dataclass(frozen=True, slots=True)
class Sort:
    """Of what type something is, in any of the kinds that have it."""

    kind: Kind
    is_optional: bool = False
    members: type[IntEnum] | None = None


_OF_EVERY = {
    SEQ: Sort(Kind.NUMBER),
    SIZE: Sort(Kind.NUMBER),
    TAG: Sort(Kind.NUMBER),
    DESCRIPTOR: Sort(Kind.NUMBER),
    TIME: Sort(Kind.TIME),
    KIND: Sort(Kind.TEXT),
    GROUP: Sort(Kind.TEXT),
    PATH: Sort(Kind.TEXT),
}


def sorts(name: str) -> set[Sort]:
    """Of what types something is: several where kinds have other things of this name."""
    if name in EVERY:
        return {_OF_EVERY[name]}
    found = FIELDS[name.removeprefix(".")].values()
    return {Sort(one.kind, one.is_optional, one.members) for one in found}
