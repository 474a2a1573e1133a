"""Event definitions: a class declares the fields, group, role and compaction rule of an event."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import (
    Annotated,
    Any,
    ClassVar,
    NamedTuple,
    TypeVar,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

import construct as cs

from journal.events.wire_types import Secret, holds_bytes

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
    APPLICATION = "application"


class Role(Enum):
    """Part that an event plays when its journal is resumed.

    - preamble: identity of the program, and its first files, read before the guest starts;
    - recording: a fact about the recording itself, which a replay skips;
    - effect: an action of the guest, which a replay compares with what the guest does again;
    - input: a value from outside, which a replay returns to the guest.
    """

    PREAMBLE = "preamble"
    RECORDING = "recording"
    EFFECT = "effect"
    INPUT = "input"


@dataclass(frozen=True, slots=True)
class Keep:
    """Every compaction retains the event. No file or descriptor depends on it."""


@dataclass(frozen=True, slots=True)
class Pinned:
    """Every compaction retains the event, because later files and descriptors depend on it."""


@dataclass(frozen=True, slots=True)
class Resets:
    """Every compaction retains the event, which starts or ends a process.

    It supersedes memory, threads and open descriptors.
    """


@dataclass(frozen=True, slots=True)
class Latest:
    """The next event of the same kind with equal ``key`` fields supersedes the event."""

    key: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Needed:
    """The event is retained while a kept state of files and descriptors depends on it.

    An input with this rule is also retained where one with the rule Consumed would be.
    """


@dataclass(frozen=True, slots=True)
class Opens(Needed):
    """A needed event that opens descriptors."""

    fds: tuple[str, ...] = ("fd",)


@dataclass(frozen=True, slots=True)
class Copies(Needed):
    """A needed event that makes descriptor ``target`` a duplicate of ``source``."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Moves(Needed):
    """A needed event that moves descriptor ``source`` to ``target``, which is closed first."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Closes(Needed):
    """A needed event that closes a descriptor."""

    fd: str = "fd"


@dataclass(frozen=True, slots=True)
class Consumed:
    """The event is an input. It is dropped before a kept snapshot that can be resumed."""


@dataclass(frozen=True, slots=True)
class Staged:
    """The event is part of the next snapshot.

    If the snapshot has Merged parts, the event is dropped together with it, unless its contents are
    merged into the next kept snapshot. Otherwise the event is retained while a kept snapshot has
    memory, table elements, globals or a thread from it.
    """


@dataclass(frozen=True, slots=True)
class Merged:
    """The event is part of the next snapshot, and only this library writes it.

    Pages of dropped snapshots are merged into the next kept snapshot. Other contents are dropped
    together with their snapshot.
    """


@dataclass(frozen=True, slots=True)
class Marks:
    """The event closes a snapshot. It is dropped together with the state that it closed."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """The event describes bytes of this journal. A compaction drops it and may write a new one."""


Rule = (
    Keep
    | Pinned
    | Resets
    | Latest
    | Needed
    | Opens
    | Copies
    | Moves
    | Closes
    | Consumed
    | Staged
    | Merged
    | Marks
    | Rewritten
)

_RULES: dict[Role, tuple[tuple[type, ...], str]] = {
    Role.PREAMBLE: (
        (Keep, Pinned, Resets),
        "a resume needs the whole preamble, so a compaction must retain it",
    ),
    Role.RECORDING: (
        (Keep, Latest, Staged, Merged, Marks, Rewritten),
        "a replay skips the event, so no state outside snapshots depends on it",
    ),
    Role.EFFECT: (
        (Keep, Pinned, Resets, Latest, Needed, Staged),
        "the guest causes the event, so it is neither an input nor a fact about the recording",
    ),
    Role.INPUT: (
        (Consumed, Needed, Keep),
        "a snapshot supersedes an input, unless files, descriptors or other journals need it",
    ),
}
"""Rules that each role can have, and the reason why it has no others."""


class Event:
    """Base class of all events. A subclass is frozen and slotted, and has the layout of its fields.

    Events are equal if their classes and fields are equal. ``draft`` is a class with the same slots
    that is not frozen: filling a draft and assigning its ``__class__`` costs a third of filling a
    frozen object through ``object.__setattr__``.
    """

    __slots__ = ()
    tag: ClassVar[int]
    group: ClassVar[Group]
    role: ClassVar[Role]
    rule: ClassVar[Rule]
    secrets: ClassVar[dict[str, Secret]]
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
def event(*, tag: int, group: Group, role: Role, rule: Rule) -> Callable[[type[E]], type[E]]:
    """Return a class decorator that freezes an event class and derives its layout from its fields.

    The decorator raises TypeError for a field without a wire type, for bytes of which no wire type
    says whether they are secret, and for a group, a role and a rule that contradict one another.
    The specification also needs a docstring. ``spec/generate.py`` checks it, because ``python -OO``
    removes docstrings.
    """

    def declare(cls: type[E]) -> type[E]:
        _check_declaration(cls.__name__, group, role, rule)
        fields = wire_fields(cls)
        declared = _add_slots(cls, tuple(field.name for field in fields))
        declared.tag, declared.group, declared.role, declared.rule = tag, group, role, rule
        declared.layout = cs.Struct(*(field.name / field.construct for field in fields))
        declared.secrets = {field.name: field.secret for field in fields if field.secret}
        key_size(declared)  # Raises TypeError for a wrong key.
        return declared

    return declare


def _check_declaration(name: str, group: Group, role: Role, rule: Rule) -> None:
    """Raise TypeError if group, role and rule are not of these types or contradict one another."""
    for value, kind, word in ((group, Group, "group"), (role, Role, "role"), (rule, Rule, "rule")):
        if not isinstance(value, kind):
            raise TypeError(f"event class {name} needs a {word}, got {value!r}")
    rules, reason = _RULES[role]
    if not isinstance(rule, rules):
        raise TypeError(
            f"event class {name} has role {role.value} and rule {type(rule).__name__}: {reason}"
        )
    if (role is Role.INPUT) != (group is Group.INPUTS):
        raise TypeError(
            f"event class {name} has role {role.value} and group {group.value}: a filter that "
            "drops the group inputs must drop all inputs and nothing else"
        )
    if isinstance(rule, Needed) and group not in (Group.FILES, Group.SOCKETS, Group.INPUTS):
        raise TypeError(
            f"event class {name} has group {group.value} and rule {type(rule).__name__}: only "
            "states of files and descriptors are analysed"
        )


def key_size(cls: type[Event]) -> int:
    """Return the size of the key of a Latest rule, with which the payload starts; 0 without a key.

    Compaction compares keys without decoding. Raises TypeError unless the key consists of the first
    fields and has a fixed size.
    """
    key = cls.rule.key if isinstance(cls.rule, Latest) else ()
    if key == cls.names[: len(key)]:
        with suppress(cs.SizeofError):
            return sum(cls.layout.subcons[index].sizeof() for index in range(len(key)))
    raise TypeError(
        f"event class {cls.__name__} has the key {key}: a key consists of the first fields, and "
        "has a fixed size"
    )


class WireField(NamedTuple):
    """A field of an event class: its construct, and the kind of secret that it holds, or None."""

    name: str
    construct: cs.Construct
    secret: Secret | None


def wire_fields(cls: type[Event]) -> list[WireField]:
    """Return the fields of an event class, in wire order."""
    fields = []
    for name, hint in get_type_hints(cls, include_extras=True).items():
        if get_origin(hint) is ClassVar:
            continue
        if get_origin(hint) is not Annotated:
            raise TypeError(f"field {cls.__name__}.{name} has no wire type; annotate it with one")
        construct, *secret = get_args(hint)[1:]
        if not secret and holds_bytes(construct):
            raise TypeError(
                f"field {cls.__name__}.{name} holds bytes, and its wire type does not say whether "
                "an export redacts them; use FileBytes or PublicBytes, for example"
            )
        fields.append(WireField(name, construct, secret[0] if secret else None))
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
    if type(value) is tuple and any(isinstance(item, bytes | str) for item in value):
        items = ", ".join(map(_shorten, value))
        return f"({items},)" if len(value) == 1 else f"({items})"
    return repr(value)
