"""Kinds of events that an application declares: in Python, and in the journal itself.

A declaration in a journal is data from a file. It selects field types from a table, and nothing of
it is ever compiled or evaluated.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from io import BytesIO
from typing import Annotated, Any, NamedTuple, Self, dataclass_transform, get_args, get_type_hints

import construct as cs

from journal._arguments import check_class, check_int, quote
from journal.errors import LimitExceeded, OptionError
from journal.events import APPLICATION_TAGS, BY_TAG
from journal.events.application import ApplicationKind
from journal.events.definition import E, Event, Group, Keep, Role, event, field_values
from journal.events.wire_types import (
    I64,
    PAYLOAD_SIZE_MAX,
    U8,
    U16,
    U32,
    U64,
    Duration,
    Flag,
    Ip,
    ListOf,
    OptionalOf,
    PublicBytes,
    Text,
)
from journal.format.frame import APPLICATION_TAG_MIN, TAG_MAX

FIELDS_COUNT_MAX = 64
"""Maximum number of fields of a declared kind."""
NAME_SIZE_MAX = 64
"""Maximum length of the name of a kind or a field, in characters."""

_KIND_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_FIELD_NAME = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_RESERVED_NAMES = frozenset(Event.__annotations__)
"""Names that every event class has, such as ``tag``. No field can have them."""
_I32 = Annotated[int, cs.Int32sl]
_TYPES: dict[str, Any] = {
    "u8": U8,
    "u16": U16,
    "u32": U32,
    "u64": U64,
    "i32": _I32,
    "i64": I64,
    "flag": Flag,
    "text": Text,
    "blob": PublicBytes,
    "duration": Duration,
    "ip": Ip,
}
_TYPE_TEXT = re.compile(rf"(maybe |list of )?({'|'.join(_TYPES)})")
_CLASSES_COUNT_MAX = 256
PAYLOAD_ERRORS = (ValueError, cs.ConstructError)
"""Exceptions for a payload that does not fit its declaration."""


class DeclaredEvent(Event):
    """Base class of events whose class was made from a declaration in a journal."""

    __slots__ = ()

    def __new__(cls, **values: Any) -> Self:
        """Create an event from its fields."""
        if values.keys() != set(cls.names):
            raise TypeError(f"{cls.__name__} has the fields {', '.join(cls.names)}")
        created = super().__new__(cls)
        for name, value in values.items():
            object.__setattr__(created, name, value)
        return created

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"cannot change field {name}: {type(self).__name__} events are frozen")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"cannot delete field {name}: {type(self).__name__} events are frozen")

    def __reduce__(self) -> tuple[Any, ...]:
        cls = type(self)
        return _rebuild, (cls.tag, cls.__name__, _read_fields(cls), field_values(self))


# -- declarations in Python -----------------------------------------------------------------------


@dataclass_transform(kw_only_default=True, frozen_default=True)
def application_event(*, tag: int) -> Callable[[type[E]], type[E]]:
    """Return a class decorator that declares a kind of application events.

    The class derives from ``Event``, and annotates its fields with wire types. Raises
    OptionError for a tag that is not reserved for applications, and TypeError for a class that
    cannot be declared in a journal. Importable from ``journal``.
    """

    check_int("tag", tag, APPLICATION_TAG_MIN, TAG_MAX)

    def declare(cls: type[E]) -> type[E]:
        check_class("an application event", cls, Event)
        if cls.__name__ in {known.__name__ for known in BY_TAG.values()}:
            raise TypeError(f"{cls.__name__} is a kind of this project: choose another name")
        made = event(tag=tag, group=Group.APPLICATION, role=Role.RECORDING, rule=Keep())(cls)
        try:
            declaration_of(made)
        except OptionError as error:
            raise TypeError(str(error)) from None
        return made

    return declare


def declaration_of(cls: type[Event]) -> ApplicationKind:
    """Return the declaration of a class. Raises OptionError if it cannot be declared."""
    if not (isinstance(cls, type) and issubclass(cls, Event)) or cls is Event:
        raise OptionError(f"expected a class with @application_event, got {quote(cls)}")
    found = ApplicationKind(number=cls.tag, name=cls.__name__, fields=_read_fields(cls))
    if reason := explain_void(found):
        raise OptionError(f"cannot declare {cls.__name__}: {reason}")
    return found


def _read_fields(cls: type[Event]) -> tuple[tuple[str, str], ...]:
    """Return the names and the types of the fields of a class, as a declaration has them."""
    return tuple(
        (name, _name_type(field.subcon))
        for name, field in zip(cls.names, cls.layout.subcons, strict=True)
    )


def _name_type(con: cs.Construct) -> str:
    """Return the name of a wire type; empty for a type that no declaration can name."""
    if isinstance(con, OptionalOf | ListOf):
        inner = _name_type(con.subcon)
        return f"{'maybe' if isinstance(con, OptionalOf) else 'list of'} {inner}" if inner else ""
    return next((name for name, hint in _TYPES.items() if get_args(hint)[1] is con), "")


# -- declarations in a journal --------------------------------------------------------------------


def explain_void(declaration: ApplicationKind) -> str:
    """Return the reason why a declaration is void, in one sentence; empty if it is not."""
    number, name, fields = declaration.number, declaration.name, declaration.fields
    if number not in APPLICATION_TAGS:
        first, last = min(APPLICATION_TAGS), max(APPLICATION_TAGS)
        return f"tags of applications are {first} to {last}, got {number}"
    if len(name) > NAME_SIZE_MAX or not _KIND_NAME.fullmatch(name):
        return f"{_shorten(name)} is not a name of at most {NAME_SIZE_MAX} letters and digits"
    if len(fields) > FIELDS_COUNT_MAX:
        return f"a kind has at most {FIELDS_COUNT_MAX} fields, got {len(fields)}"
    names = [field for field, _ in fields]
    if len(set(names)) != len(names):
        return "two fields have the same name"
    for field, type_text in fields:
        if len(field) > NAME_SIZE_MAX or not _FIELD_NAME.fullmatch(field):
            return f"{_shorten(field)} is not a name of at most {NAME_SIZE_MAX} small letters"
        if field in _RESERVED_NAMES:
            return f"no field can have the name {field}"
        if not _TYPE_TEXT.fullmatch(type_text):
            return f"field {field} has the unknown type {_shorten(type_text)}"
    return ""


@lru_cache(maxsize=_CLASSES_COUNT_MAX)
def make_class(declaration: ApplicationKind) -> type[Event]:
    """Return the event class of a declaration that is not void."""
    hints = {name: _find_type(type_text) for name, type_text in declaration.fields}
    namespace = {
        "__slots__": tuple(hints),
        "__annotations__": hints,
        "__module__": __name__,
        "__doc__": "An event whose kind is declared in a journal.",
    }
    made: Any = type(declaration.name, (DeclaredEvent,), namespace)
    made.tag, made.names = declaration.number, tuple(hints)
    made.group, made.role, made.rule = Group.APPLICATION, Role.RECORDING, Keep()
    made.layout = cs.Struct(*(name / get_args(hint)[1] for name, hint in hints.items()))
    made.secrets = {}
    assert get_type_hints(made, include_extras=True).keys() >= hints.keys()
    return made  # type: ignore[no-any-return]


def _find_type(type_text: str) -> Any:
    matched = _TYPE_TEXT.fullmatch(type_text)
    assert matched is not None, "the declaration is void"
    shape, name = matched.groups()
    base: Any
    base, con = get_args(_TYPES[name])[:2]
    if shape == "maybe ":
        return Annotated[base | None, OptionalOf(con)]
    if shape == "list of ":
        return Annotated[tuple[base, ...], ListOf(con)]
    return _TYPES[name]


class Collected(NamedTuple):
    """Declarations of a journal: classes by tag, the first of each tag, and why others are void."""

    classes: dict[int, type[Event]]
    first: dict[int, ApplicationKind]
    void: list[str]


class RunningKinds:
    """Kinds known at a position of a sequence of events: the declarations before it apply.

    ``applying`` limits them to the kinds that apply to the whole journal, where these are known.
    """

    def __init__(self, applying: Mapping[int, type[Event]] | None = None) -> None:
        self.kinds: dict[int, type[Event]] = dict(BY_TAG)
        self._applying = applying

    def add(self, tag: int, payload: bytes) -> None:
        """Add the next event, which may be a declaration."""
        if tag != ApplicationKind.tag:
            return
        with suppress(*PAYLOAD_ERRORS):
            values = unpack_values(ApplicationKind, payload)
            one = ApplicationKind(**dict(zip(ApplicationKind.names, values, strict=True)))
            if explain_void(one):
                return
            if self._applying is None:
                self.kinds[one.number] = make_class(one)
            elif one.number in self._applying:
                self.kinds[one.number] = self._applying[one.number]


def check_declarations(
    classes: Iterable[type[Event]], declared: Mapping[int, ApplicationKind]
) -> list[ApplicationKind]:
    """Return the declarations of classes that a journal needs besides those it has.

    Raises OptionError if two declarations of a tag differ.
    """
    known, new = dict(declared), []
    for cls in classes:
        one = declaration_of(cls)
        before = known.setdefault(one.number, one)
        if before != one:
            raise OptionError(
                f"tag {one.number} is declared already, as {format_declaration(before)}; choose "
                f"another tag for {format_declaration(one)}"
            )
        if one.number not in declared and one not in new:
            new.append(one)
    return new


def format_declaration(declaration: ApplicationKind) -> str:
    """Return a declaration as one line: ``Reading(sensor: text, celsius: i32)``."""
    fields = ", ".join(f"{name}: {type_text}" for name, type_text in declaration.fields)
    return f"{declaration.name}({fields})"


def collect_declarations(
    found: Iterable[ApplicationKind], classes: Iterable[type[Event]] = ()
) -> Collected:
    """Return the valid declarations of a journal; void and contradictory ones are left out.

    A class of ``classes`` stands for the equal declaration. It also declares its tag itself, if the
    journal does not.
    """
    given = {declaration_of(cls): cls for cls in classes}
    first: dict[int, ApplicationKind] = {}
    void: dict[str, None] = {}  # An ordered set: a journal can repeat a declaration.
    contradicted: set[int] = set()
    for one in (*found, *given):
        if reason := explain_void(one):
            if len(void) < len(APPLICATION_TAGS):
                void[f"a declaration is void: {reason}"] = None
        elif first.setdefault(one.number, one) != one and one not in given:
            contradicted.add(one.number)
    for tag in sorted(contradicted):
        void[f"tag {tag} is declared in two different ways, so its events are bytes"] = None
    return Collected(
        {
            tag: given.get(one) or make_class(one)
            for tag, one in first.items()
            if tag not in contradicted
        },
        first,
        list(void),
    )


def _shorten(text: str) -> str:
    return repr(text) if len(text) <= NAME_SIZE_MAX else f"{text[:NAME_SIZE_MAX]!r}…"


# -- payloads -------------------------------------------------------------------------------------


def pack_values(cls: type[Event], values: Iterable[Any]) -> bytes:
    """Return the payload of the values of a class that was made from a declaration."""
    payload = b"".join(
        field.subcon.build(value) for field, value in zip(cls.layout.subcons, values, strict=True)
    )
    if len(payload) > PAYLOAD_SIZE_MAX:
        raise LimitExceeded(
            f"event payload has {len(payload)} bytes, but the limit is {PAYLOAD_SIZE_MAX}"
        )
    return payload


def unpack_values(cls: type[Event], payload: bytes | memoryview) -> tuple[Any, ...]:
    """Return the values in a payload. Raises ValueError or ConstructError if it does not fit."""
    stream = BytesIO(payload)
    values = tuple([field.subcon.parse_stream(stream) for field in cls.layout.subcons])
    if rest := len(payload) - stream.tell():
        raise ValueError(f"{rest} bytes are left over")
    return values


def _rebuild(
    tag: int, name: str, fields: tuple[tuple[str, str], ...], values: tuple[Any, ...]
) -> Event:
    cls = make_class(ApplicationKind(number=tag, name=name, fields=fields))
    return cls(**dict(zip(cls.names, values, strict=True)))
