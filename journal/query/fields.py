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


class TypeCategory(Enum):
    """The types of what can be compared."""

    NUMBER = "a number"
    FLAG = "true or false"
    TEXT = "text"
    BYTES = "bytes"
    MEMBER = "one of a few names"
    ADDRESS = "an address"
    TIME = "a time"


class EventField(NamedTuple):
    """A field of one kind of event, or what every event has.

    ``get`` gives its value of the values of an event, or several if ``is_many``. ``members`` are
    the names that a MEMBER can have. ``is_optional`` says that there may be none.
    """

    category: TypeCategory
    get: Callable[[Any], Any]
    is_many: bool = False
    is_optional: bool = False
    members: type[IntEnum] | None = None


_ADDRESSES = {IPv4Address, IPv6Address}
_PLAIN = {
    int: TypeCategory.NUMBER,
    bool: TypeCategory.FLAG,
    str: TypeCategory.TEXT,
    bytes: TypeCategory.BYTES,
}

TIME, SEQ, SIZE = "time", "seq", "size"
KIND, GROUP, TAG = "kind", "group", "tag"
PATH, DESCRIPTOR = "path", "descriptor"
COMMON_FIELDS = (SEQ, TIME, KIND, GROUP, TAG, SIZE, PATH, DESCRIPTOR)
"""What every event has. A field of such a name has a dot in front: ``.size``."""


def _list_fields(cls: type[Event]) -> Iterator[tuple[str, EventField]]:
    hints = get_type_hints(cls, include_extras=True)
    for index, name in enumerate(cls.names):
        base = get_args(hints[name])[0]
        yield from _flatten_field(name, base, _make_item_getter(index))


def _flatten_field(
    name: str, base: Any, get: Callable[[Any], Any]
) -> Iterator[tuple[str, EventField]]:
    """A field, and in a record its parts."""
    options = {each for each in get_args(base) if each is not type(None)}
    is_optional = type(None) in get_args(base)
    if get_args(base) and options <= _ADDRESSES:
        yield name, EventField(TypeCategory.ADDRESS, get)
    elif is_optional and len(options) == 1:
        for part, operand in _flatten_field(name, options.pop(), get):
            found = operand._replace(is_optional=True)
            yield (
                part,
                found
                if part == name
                else found._replace(get=_make_optional_getter(get, part, name)),
            )
    elif base in _PLAIN:
        yield name, EventField(_PLAIN[base], get)
    elif base in _ADDRESSES:
        yield name, EventField(TypeCategory.ADDRESS, get)
    elif isinstance(base, type) and issubclass(base, IntEnum):
        yield name, EventField(TypeCategory.MEMBER, get, members=base)
    elif isinstance(base, type) and is_dataclass(base):
        hints = get_type_hints(base)
        for each in fields(base):
            attribute = _make_attribute_getter(get, each.name)
            yield from _flatten_field(f"{name}.{each.name}", hints[each.name], attribute)
    elif (items := get_args(base)) and items[0] in _PLAIN:
        yield name, EventField(_PLAIN[items[0]], get, is_many=True)


def _make_item_getter(index: int) -> Callable[[Any], Any]:
    return lambda values: values[index]


def _make_attribute_getter(get: Callable[[Any], Any], name: str) -> Callable[[Any], Any]:
    return lambda values: getattr(get(values), name)


def _make_optional_getter(get: Callable[[Any], Any], part: str, name: str) -> Callable[[Any], Any]:
    attribute = part.removeprefix(f"{name}.")
    return lambda values: None if get(values) is None else getattr(get(values), attribute)


FIELDS: dict[str, dict[int, EventField]] = {}
"""By name and tag."""

for _tag, _cls in BY_TAG.items():
    for _name, _operand in _list_fields(_cls):
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
    return name in COMMON_FIELDS or name.removeprefix(".") in FIELDS


def list_names() -> list[str]:
    """Everything that an expression can speak of."""
    return [
        *COMMON_FIELDS,
        *(f".{name}" if name in COMMON_FIELDS else name for name in sorted(FIELDS)),
    ]


@dataclass(frozen=True, slots=True)
class FieldType:
    """Of what type something is, in any of the kinds that have it."""

    category: TypeCategory
    is_optional: bool = False
    members: type[IntEnum] | None = None


_COMMON_TYPES = {
    SEQ: FieldType(TypeCategory.NUMBER),
    SIZE: FieldType(TypeCategory.NUMBER),
    TAG: FieldType(TypeCategory.NUMBER),
    DESCRIPTOR: FieldType(TypeCategory.NUMBER),
    TIME: FieldType(TypeCategory.TIME),
    KIND: FieldType(TypeCategory.TEXT),
    GROUP: FieldType(TypeCategory.TEXT),
    PATH: FieldType(TypeCategory.TEXT),
}


def find_types(name: str) -> set[FieldType]:
    """Of what types something is: several where kinds have other things of this name."""
    if name in COMMON_FIELDS:
        return {_COMMON_TYPES[name]}
    found = FIELDS[name.removeprefix(".")].values()
    return {FieldType(one.category, one.is_optional, one.members) for one in found}
