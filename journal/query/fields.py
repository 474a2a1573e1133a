"""Fields that a query can name: the fields of each kind of event, and the fields common to all
events.

The type of a field decides how it can be compared. A field with several values matches if one of
its values matches.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum, IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Any, NamedTuple, get_args, get_type_hints

from journal._arguments import check_class, check_int, check_mapping, check_text
from journal.events import BY_TAG
from journal.events.definition import Event, Group
from journal.format.frame import TAG_MAX, TAG_MIN

TAGS = range(TAG_MIN, TAG_MAX + 1)


class TypeCategory(Enum):
    """Category of a field's type, which decides the operators."""

    NUMBER = "a number"
    FLAG = "true or false"
    TEXT = "text"
    BYTES = "bytes"
    MEMBER = "one of a few names"
    ADDRESS = "an address"
    TIME = "a time"


class EventField(NamedTuple):
    """Field of one kind of event.

    ``get`` returns the value from the values of an event, or several values if ``is_many``.
    ``members`` are the names of a MEMBER field. An ``is_optional`` field may be None.
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
PATH, DESCRIPTOR, OF_SOCKET = "path", "descriptor", "of_socket"
COMMON_FIELDS = (SEQ, TIME, KIND, GROUP, TAG, SIZE, PATH, DESCRIPTOR, OF_SOCKET)
"""Fields that every event has. An event field of the same name is written with a dot: ``.size``."""


def _list_fields(cls: type[Event]) -> Iterator[tuple[str, EventField]]:
    hints = get_type_hints(cls, include_extras=True)
    for index, name in enumerate(cls.names):
        base = get_args(hints[name])[0]
        yield from _flatten_field(name, base, _make_item_getter(index))


def _flatten_field(
    name: str, base: Any, get: Callable[[Any], Any]
) -> Iterator[tuple[str, EventField]]:
    """Yield a field, or the parts of a record field."""
    options = {option for option in get_args(base) if option is not type(None)}
    is_optional = type(None) in get_args(base)
    if get_args(base) and options <= _ADDRESSES:
        yield name, EventField(TypeCategory.ADDRESS, get)
    elif is_optional and len(options) == 1:
        for part, field in _flatten_field(name, options.pop(), get):
            optional = field._replace(is_optional=True)
            yield (
                part,
                optional
                if part == name
                else optional._replace(get=_make_optional_getter(get, part, name)),
            )
    elif base in _PLAIN:
        yield name, EventField(_PLAIN[base], get)
    elif base in _ADDRESSES:
        yield name, EventField(TypeCategory.ADDRESS, get)
    elif isinstance(base, type) and issubclass(base, IntEnum):
        yield name, EventField(TypeCategory.MEMBER, get, members=base)
    elif isinstance(base, type) and is_dataclass(base):
        hints = get_type_hints(base)
        for member in fields(base):
            attribute = _make_attribute_getter(get, member.name)
            yield from _flatten_field(f"{name}.{member.name}", hints[member.name], attribute)
    elif (items := get_args(base)) and items[0] in _PLAIN:
        yield name, EventField(_PLAIN[items[0]], get, is_many=True)


def _make_item_getter(index: int) -> Callable[[Any], Any]:
    return lambda values: values[index]


def _make_attribute_getter(get: Callable[[Any], Any], name: str) -> Callable[[Any], Any]:
    return lambda values: getattr(get(values), name)


def _make_optional_getter(get: Callable[[Any], Any], part: str, name: str) -> Callable[[Any], Any]:
    attribute = part.removeprefix(f"{name}.")
    return lambda values: None if get(values) is None else getattr(get(values), attribute)


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
"""Group names of Wasmer's journal."""

GROUPS = {group.value: group for group in Group} | ALIASES


@dataclass(frozen=True, slots=True)
class FieldType:
    """Type of a field of one name."""

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
    OF_SOCKET: FieldType(TypeCategory.FLAG),
}


def find_common_type(name: str) -> FieldType:
    """Return the type of a field that every event has."""
    return _COMMON_TYPES[name]


class Vocabulary:
    """Kinds of events by tag, and the names that an expression can use for them.

    ``fields`` has the event fields by name and tag.
    """

    def __init__(self, kinds: Mapping[int, type[Event]]) -> None:
        self.kinds = check_mapping("kinds", kinds)
        for tag, kind in kinds.items():
            check_int("each tag of kinds", tag, 0, 255)
            check_class("each kind of kinds", kind, Event)
        self.fields: dict[str, dict[int, EventField]] = {}
        for tag, cls in kinds.items():
            for name, field in _list_fields(cls):
                self.fields.setdefault(name, {})[tag] = field

    @property
    def kind_names(self) -> tuple[str, ...]:
        """Names of the kinds."""
        return tuple(cls.__name__ for cls in self.kinds.values())

    def is_known(self, name: str) -> bool:
        """Return whether a name in an expression is a field."""
        check_text("name", name)
        return name in COMMON_FIELDS or name.removeprefix(".") in self.fields

    def list_names(self) -> list[str]:
        """Return all field names that an expression can use."""
        return [
            *COMMON_FIELDS,
            *(f".{name}" if name in COMMON_FIELDS else name for name in sorted(self.fields)),
        ]


def find_types(name: str, vocabulary: Vocabulary) -> set[FieldType]:
    """Return the types of a field: several if kinds of events define the name differently."""
    if name in COMMON_FIELDS:
        return {_COMMON_TYPES[name]}
    found = vocabulary.fields[name.removeprefix(".")].values()
    return {FieldType(field.category, field.is_optional, field.members) for field in found}


BUILT_IN = Vocabulary(BY_TAG)
"""The kinds of this project. A journal can declare more."""
