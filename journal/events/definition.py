"""What an event is: one class declares its fields, layout, group and compaction rule."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import (
    Annotated,
    Any,
    ClassVar,
    TypeVar,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

import construct as cs

REPR_SIZE_MAX = 48
"""Longer bytes, texts and lists are cut in an event's repr."""


class Group(Enum):
    """The families a filter can drop."""

    CORE = "core"
    MEMORY = "memory"
    THREADS = "threads"
    FILES = "files"
    STDIO = "stdio"
    SOCKETS = "sockets"
    INPUTS = "inputs"
    SNAPSHOTS = "snapshots"


@dataclass(frozen=True, slots=True)
class Keep:
    """Survives every compaction."""


@dataclass(frozen=True, slots=True)
class Latest:
    """Superseded by the next event of its kind whose ``key`` fields are equal."""

    key: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Staged:
    """Part of the state at the next snapshot.

    Superseded by a later ``of`` (kinds that share the word share the state) with equal ``key``
    fields, once a snapshot has closed that one too.
    """

    of: str
    key: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Region:
    """Staged, and superseded where later events of its kind with equal ``key`` cover it.

    It covers as many places as ``data`` is long, from ``start`` on.
    """

    start: str
    data: str
    key: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pages:
    """Staged, and superseded page by page, by later ones of its kind with equal ``key`` fields.

    ``numbers`` is the field that says which pages, ``kinds`` the one that says what is given of
    each: all of it, which supersedes what came before, or how it differs from that.
    """

    numbers: str
    kinds: str
    key: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Opens:
    """Begins the spans of descriptors. A span that closes unmodified leaves no trace."""

    fds: tuple[str, ...] = ("fd",)


@dataclass(frozen=True, slots=True)
class Copies:
    """``target`` becomes a second name of what ``source`` names: the span ends with the last."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Moves:
    """What ``source`` names is named ``target`` from here on; what ``target`` named is closed."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Mutates:
    """Belongs to a descriptor's span and makes it worth keeping: it outlives the descriptor."""

    fd: str = "fd"


@dataclass(frozen=True, slots=True)
class Adjusts:
    """Belongs to a descriptor's span and means nothing once the span is closed."""

    fd: str = "fd"


@dataclass(frozen=True, slots=True)
class Closes:
    """Ends a descriptor's span."""

    fd: str = "fd"


@dataclass(frozen=True, slots=True)
class Names:
    """Changes what ``paths`` name: a later event of this rule on the same names may undo it."""

    paths: tuple[str, ...] = ("path",)


@dataclass(frozen=True, slots=True)
class Consumed:
    """Told the guest something at this place; superseded by a snapshot behind it."""


@dataclass(frozen=True, slots=True)
class Resets:
    """Ends what only a living process has: supersedes memory, threads and open descriptors."""


@dataclass(frozen=True, slots=True)
class Marks:
    """Closes a snapshot. Older marks go with the state that they closed."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """Speaks of this journal's own bytes: a compaction drops it and may write its own."""


Rule = (
    Keep
    | Latest
    | Staged
    | Region
    | Pages
    | Opens
    | Copies
    | Moves
    | Mutates
    | Adjusts
    | Closes
    | Names
    | Consumed
    | Resets
    | Marks
    | Rewritten
)


class Event:
    """Base of every event. A subclass is frozen, slotted, and knows its own layout.

    Events are equal if they are of one kind and their fields are equal. ``draft`` is a class of
    the same shape that is not frozen: to fill a draft and change its class into the event's costs a
    third of filling a frozen object through ``object.__setattr__``.
    """

    __slots__ = ()
    tag: ClassVar[int]
    group: ClassVar[Group]
    rule: ClassVar[Rule]
    layout: ClassVar[cs.Struct]
    names: ClassVar[tuple[str, ...]]
    draft: ClassVar[type[Any]]

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return field_values(self) == field_values(other)

    def __hash__(self) -> int:
        return hash((self.tag, field_values(self)))

    def __repr__(self) -> str:
        parts = [f"{name}={_shorten(getattr(self, name))}" for name in self.names]
        return f"{type(self).__name__}({', '.join(parts)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), field_values(self))


E = TypeVar("E", bound=Event)


def field_names(cls: type[Event]) -> tuple[str, ...]:
    """The names of an event's fields, in wire order."""
    return cls.names


def field_values(event: Event) -> tuple[Any, ...]:
    """The values of an event's fields, in wire order."""
    return tuple([getattr(event, name) for name in event.names])


def field_dict(event: Event) -> dict[str, Any]:
    """The names and values of an event's fields, in wire order."""
    return {name: getattr(event, name) for name in event.names}


@dataclass_transform(kw_only_default=True, frozen_default=True)
def event(*, tag: int, group: Group, rule: Rule) -> Callable[[type[E]], type[E]]:
    """Declare an event: freeze the class and derive its layout from its fields."""

    def declare(cls: type[E]) -> type[E]:
        if not cls.__doc__:
            raise TypeError(f"{cls.__name__} has no docstring to put in the spec")
        fields = wire_fields(cls)
        declared = _add_slots(cls, tuple(name for name, _ in fields))
        declared.tag, declared.group, declared.rule = tag, group, rule
        declared.layout = cs.Struct(*(name / con for name, con in fields))
        return declared

    return declare


def wire_fields(cls: type[Event]) -> list[tuple[str, cs.Construct]]:
    """The fields of an event class, in wire order, each with its construct."""
    fields = []
    for name, hint in get_type_hints(cls, include_extras=True).items():
        if get_origin(hint) is ClassVar:
            continue
        if get_origin(hint) is not Annotated:
            raise TypeError(f"{cls.__name__}.{name} is not a wire type")
        fields.append((name, get_args(hint)[1]))
    return fields


def _add_slots(cls: type[E], names: tuple[str, ...]) -> type[E]:
    """``cls`` made again with slots for ``names``, and a constructor that fills them."""
    namespace = dict(vars(cls))
    defaults = {name: namespace.pop(name) for name in names if name in namespace}
    for name in ("__dict__", "__weakref__"):
        namespace.pop(name, None)
    namespace |= {"__slots__": names, "__setattr__": _refuse_change, "__delattr__": _refuse_change}
    slotted: Any = type(cls.__name__, cls.__bases__, namespace)
    slotted.names = names
    slotted.draft = type(f"{cls.__name__}Draft", cls.__bases__, {"__slots__": names})
    slotted.__new__ = _make_constructor(slotted, defaults)
    return cast("type[E]", slotted)


def _make_constructor(cls: type[Event], defaults: dict[str, Any]) -> Any:
    """A ``__new__`` with keyword-only parameters that fills a draft and then freezes it.

    Source text, because a signature without a loop at every call cannot be had otherwise.
    """
    assert not any(name.startswith("_") for name in cls.names), "underscores are for this"
    scope: dict[str, Any] = {"_defaults": defaults, "_draft": cls.draft}
    parameters = [f"{name}=_defaults[{name!r}]" if name in defaults else name for name in cls.names]
    lines = [f"def __new__({', '.join(['_cls', '*', *parameters] if parameters else ['_cls'])}):"]
    lines += ["    _event = _draft()"]
    lines += [f"    _event.{name} = {name}" for name in cls.names]
    lines += ["    _event.__class__ = _cls", "    return _event"]
    exec(compile("\n".join(lines), f"<constructor of {cls.__name__}>", "exec"), scope)
    return scope["__new__"]


def _refuse_change(event: Event, name: str, value: object = None) -> None:
    raise AttributeError(f"{type(event).__name__} is frozen: {name} stays what it is")


def _rebuild(cls: type[Event], values: tuple[Any, ...]) -> Event:
    return cls(**dict(zip(cls.names, values, strict=True)))


def _shorten(value: object) -> str:
    """The repr of a field, cut if it is long."""
    if isinstance(value, IntEnum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, bytes | str | tuple) and len(value) > REPR_SIZE_MAX:
        what = {bytes: "bytes", str: "characters"}.get(type(value), "items")
        return f"<{len(value)} {what}: {value[: REPR_SIZE_MAX // 2]!r}…>"
    return repr(value)
