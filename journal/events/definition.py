"""Event definitions: a class declares the fields, layout, group and compaction rule of an event."""

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
"""Maximum length of bytes, texts and lists in the repr of an event; longer values are cut."""


class Group(Enum):
    """A group of event kinds that a filter can drop."""

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
    """Every compaction retains the event."""


@dataclass(frozen=True, slots=True)
class Latest:
    """The next event of the same kind with equal ``key`` fields supersedes the event."""

    key: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Staged:
    """The event is part of the state at the next snapshot.

    A later event with the same ``of`` and equal ``key`` fields supersedes it, once a snapshot has
    closed the later event too. Kinds with the same ``of`` share a state.
    """

    of: str
    key: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Region:
    """The event is staged. Later events of its kind with equal ``key`` fields supersede a range.

    The range starts at ``start`` and is as long as ``data``.
    """

    start: str
    data: str
    key: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pages:
    """The event is staged. Later events of its kind with equal ``key`` fields supersede pages.

    The field ``numbers`` lists the pages. The field ``kinds`` states the form of each page: the
    whole page, which supersedes earlier contents, or its difference from earlier contents.
    """

    numbers: str
    kinds: str
    key: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Opens:
    """The event starts the spans of descriptors. A span that closes unmodified leaves no trace."""

    fds: tuple[str, ...] = ("fd",)


@dataclass(frozen=True, slots=True)
class Copies:
    """Descriptor ``target`` duplicates ``source``. The last duplicate to close ends the span."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Moves:
    """The descriptor ``source`` moves to ``target``. An open ``target`` is closed first."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Mutates:
    """The event is part of the span of a descriptor. Its effect outlives and retains the span."""

    fd: str = "fd"


@dataclass(frozen=True, slots=True)
class Adjusts:
    """The event is part of the span of a descriptor. It has no meaning once the span is closed."""

    fd: str = "fd"


@dataclass(frozen=True, slots=True)
class Closes:
    """The event ends the span of a descriptor."""

    fd: str = "fd"


@dataclass(frozen=True, slots=True)
class Names:
    """The event changes directory entries at ``paths``. A later event of this rule may undo it."""

    paths: tuple[str, ...] = ("path",)


@dataclass(frozen=True, slots=True)
class Consumed:
    """The event is an input that the guest consumed here. A later snapshot supersedes it."""


@dataclass(frozen=True, slots=True)
class Resets:
    """The event ends the process and supersedes memory, threads and open descriptors."""


@dataclass(frozen=True, slots=True)
class Marks:
    """The event closes a snapshot. It is dropped together with the state that it closed."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """The event describes bytes of this journal. A compaction drops it and may write a new one."""


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
    """Base class of all events. A subclass is frozen and slotted, and has the layout of its fields.

    Events are equal if their classes and fields are equal. ``draft`` is a class with the same slots
    that is not frozen: filling a draft and assigning its ``__class__`` costs a third of filling a
    frozen object through ``object.__setattr__``.
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
    """Return the names of the fields of an event class, in wire order."""
    return cls.names


def field_values(event: Event) -> tuple[Any, ...]:
    """Return the values of the fields of an event, in wire order."""
    return tuple([getattr(event, name) for name in event.names])


def field_dict(event: Event) -> dict[str, Any]:
    """Return the names and values of the fields of an event, in wire order."""
    return {name: getattr(event, name) for name in event.names}


@dataclass_transform(kw_only_default=True, frozen_default=True)
def event(*, tag: int, group: Group, rule: Rule) -> Callable[[type[E]], type[E]]:
    """Return a class decorator that freezes an event class and derives its layout from its fields.

    The decorator raises TypeError for a class without a docstring and for a field without a wire
    type.
    """

    def declare(cls: type[E]) -> type[E]:
        if not cls.__doc__:
            raise TypeError(f"event class {cls.__name__} has no docstring; the spec needs one")
        fields = wire_fields(cls)
        declared = _add_slots(cls, tuple(name for name, _ in fields))
        declared.tag, declared.group, declared.rule = tag, group, rule
        declared.layout = cs.Struct(*(name / con for name, con in fields))
        return declared

    return declare


def wire_fields(cls: type[Event]) -> list[tuple[str, cs.Construct]]:
    """Return the names and constructs of the fields of an event class, in wire order."""
    fields = []
    for name, hint in get_type_hints(cls, include_extras=True).items():
        if get_origin(hint) is ClassVar:
            continue
        if get_origin(hint) is not Annotated:
            raise TypeError(f"field {cls.__name__}.{name} has no wire type; annotate it with one")
        fields.append((name, get_args(hint)[1]))
    return fields


def _add_slots(cls: type[E], names: tuple[str, ...]) -> type[E]:
    """Return a copy of ``cls`` with slots for ``names`` and a constructor that fills them."""
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
    """Return a ``__new__`` with keyword-only parameters that fills a draft and then freezes it.

    The function is compiled from source text, because only that gives it a signature without a
    loop in each call.
    """
    assert not any(name.startswith("_") for name in cls.names), "names with _ are reserved"
    scope: dict[str, Any] = {"_defaults": defaults, "_draft": cls.draft}
    parameters = [f"{name}=_defaults[{name!r}]" if name in defaults else name for name in cls.names]
    lines = [f"def __new__({', '.join(['_cls', '*', *parameters] if parameters else ['_cls'])}):"]
    lines += ["    _event = _draft()"]
    lines += [f"    _event.{name} = {name}" for name in cls.names]
    lines += ["    _event.__class__ = _cls", "    return _event"]
    exec(compile("\n".join(lines), f"<constructor of {cls.__name__}>", "exec"), scope)
    return scope["__new__"]


def _refuse_change(event: Event, name: str, value: object = None) -> None:
    raise AttributeError(f"cannot change field {name}: {type(event).__name__} events are frozen")


def _rebuild(cls: type[Event], values: tuple[Any, ...]) -> Event:
    return cls(**dict(zip(cls.names, values, strict=True)))


def _shorten(value: object) -> str:
    """Return the repr of a field, cut if it is long."""
    if isinstance(value, IntEnum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, bytes | str | tuple) and len(value) > REPR_SIZE_MAX:
        unit = {bytes: "bytes", str: "characters"}.get(type(value), "items")
        return f"<{len(value)} {unit}: {value[: REPR_SIZE_MAX // 2]!r}…>"
    return repr(value)
