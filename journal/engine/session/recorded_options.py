"""Options of a recording that a resume keeps, stored in its ProcessStart event.

Each option is one pair of ``ProcessStart.configuration``, such as ``session.durability``. An option
that has its default is not stored.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from journal._arguments import check_path, quote, to_line
from journal.engine.configuration import SESSION_PREFIX, SafePoints, SnapshotOptions, Stacks
from journal.engine.program.module import load_module
from journal.engine.session.run_config import RunConfig, SessionConfig, StrPath
from journal.engine.wasi.network.policy import NO_NETWORK, NetworkPolicy
from journal.engine.wasi.stdio.outbox import Durability
from journal.errors import EngineMismatch, ModuleMismatch, NotResumable, OptionError
from journal.events import codec, tag_sets
from journal.events.process import ProcessStart
from journal.events.snapshots import Trigger
from journal.log.reader import Reader
from journal.log.roll_policy import RollPolicy

if TYPE_CHECKING:
    from journal.compaction import CompactionSchedule

HASH_SIZE = 32
"""Size of a SHA-256 in bytes."""

Pairs = tuple[tuple[str, str], ...]
_Parsers = Mapping[str, Callable[[str], Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedOptions:
    """Options of the first session of a recording, which a resume keeps.

    ``commands`` has the SHA-256 of the module of each command, in hexadecimal digits.
    ``snapshots.by_default`` is set unless the triggers were chosen. ``compaction`` and ``roll`` are
    None if the recording had none, or the default ones. ``network`` is the policy of the network,
    which a resume keeps only for a journal of the user.
    """

    durability: Durability = Durability.OUTPUT
    snapshots: SnapshotOptions = field(default_factory=lambda: SnapshotOptions(by_default=True))
    compaction: "CompactionSchedule | None" = None
    roll: RollPolicy | None = None
    network: NetworkPolicy = NO_NETWORK
    commands: Mapping[str, str] = field(default_factory=dict)


def read_recorded_options(path: StrPath) -> RecordedOptions:
    """Return the options of the recording at ``path``, which a resume keeps.

    Raises ``NotResumable`` for a journal without a process, ``EngineMismatch`` for an option that
    this version does not know, and the errors of a reader.
    """
    path = check_path("path", path)
    if not path.exists():
        raise OptionError(f"journal {path} does not exist: it cannot be resumed")
    with Reader(path) as reader:
        for frame in reader.frames():
            if frame.tag not in tag_sets.APPLICATION:
                break
        else:
            raise NotResumable("the journal is empty: it does not record a process")
        start = codec.decode(frame.tag, frame.payload, frame.offset)
    if not isinstance(start, ProcessStart):
        raise NotResumable("the journal has no ProcessStart event: it does not record a process")
    return parse_options(start.configuration)


def keep_options(config: RunConfig, recorded: RecordedOptions) -> SessionConfig:
    """Return the options of a session: those of ``config``, and else those of the recording."""
    values: dict[str, Any] = {each.name: getattr(config, each.name) for each in fields(RunConfig)}
    for name in ("durability", "snapshots", "compaction"):
        if values[name] is None:
            values[name] = getattr(recorded, name)
    return SessionConfig(**values)


# -- pairs of the journal --------------------------------------------------------------------------


def _parse_flag(text: str) -> bool:
    if text != "True":
        raise ValueError
    return True


def _parse_triggers(text: str) -> frozenset[Trigger]:
    return frozenset(Trigger[name] for name in text.split(",") if name)


def _parse_network(text: str) -> NetworkPolicy:
    return NetworkPolicy.parse(text.split())


_NETWORK = "network"


def _parse_commands(text: str) -> dict[str, str]:
    commands = {}
    for pair in text.split(" "):
        name, digest = pair.split("=")
        if len(bytes.fromhex(digest)) != HASH_SIZE:
            raise ValueError
        commands[name] = digest
    return commands


_SNAPSHOTS: _Parsers = {
    "on": _parse_triggers,
    "period_seconds": float,
    "every_events": int,
    "every_bytes": int,
    "stacks": Stacks,
    "safe_points": SafePoints,
    "page_index": _parse_flag,
}
_COMPACTION: _Parsers = {
    "every_events": int,
    "every_size": int,
    "factor": float,
    "size_min": int,
    "on_close": _parse_flag,
}
_RETENTION: _Parsers = {"keep_last": int, "keep_every": int, "keep_within_seconds": float}
_SEGMENTS: _Parsers = {"size_bytes": int, "age_seconds": float}

#: Options by their names in the journal. The names and values never change.
_PARSERS: _Parsers = {
    "durability": Durability,
    _NETWORK: _parse_network,
    "commands": _parse_commands,
    **{f"snapshots.{name}": parse for name, parse in _SNAPSHOTS.items()},
    **{f"compaction.{name}": parse for name, parse in _COMPACTION.items()},
    **{f"retention.{name}": parse for name, parse in _RETENTION.items()},
    **{f"segments.{name}": parse for name, parse in _SEGMENTS.items()},
}


def make_pairs(config: RunConfig, roll: RollPolicy | None) -> Pairs:
    """Return the options of a new recording that are not the default ones.

    Raises ``ModuleRefused`` for a command whose module cannot be read.
    """
    return tuple((SESSION_PREFIX + name, _to_text(value)) for name, value in _list(config, roll))


def check_commands(recorded: RecordedOptions, config: RunConfig) -> None:
    """Raise ``OptionError`` or ``ModuleMismatch`` unless ``config`` has the recorded commands."""
    for name, digest in recorded.commands.items():
        source = (config.commands or {}).get(name)
        if source is None:
            raise OptionError(
                f"the run may start the command {quote(name)}: name its module again, with "
                f"commands or --command {to_line(name)}=MODULE"
            )
        found = load_module(source).hash.hex()
        if found != digest:
            raise ModuleMismatch(
                f"the module of the command {quote(name)} is not the recorded one: its SHA-256 is "
                f"{found[:16]}…, the recorded one is {digest[:16]}…"
            )


def _list(config: RunConfig, roll: RollPolicy | None) -> Iterator[tuple[str, Any]]:
    if config.durability not in (None, Durability.OUTPUT):
        yield "durability", config.durability
    if config.network is not None and not config.network.is_empty:
        yield _NETWORK, config.network
    if config.commands:
        hashes = {name: load_module(each).hash.hex() for name, each in config.commands.items()}
        yield "commands", " ".join(f"{name}={digest}" for name, digest in sorted(hashes.items()))
    snapshots = config.snapshots
    if snapshots is not None:
        # Chosen triggers are stored even if they are none. Default triggers are not stored.
        if not snapshots.by_default:
            yield "snapshots.on", snapshots.on
        others = replace(snapshots, on=frozenset())
        yield from _list_fields("snapshots", others, SnapshotOptions(), _SNAPSHOTS)
    compaction = config.compaction
    if compaction is not None:
        from journal.compaction import CompactionSchedule, RetentionPolicy

        yield from _list_fields("compaction", compaction, CompactionSchedule(), _COMPACTION)
        yield from _list_fields("retention", compaction.policy, RetentionPolicy(), _RETENTION)
    if roll is not None:
        yield from _list_fields("segments", roll, RollPolicy(), _SEGMENTS)


def _list_fields(
    group: str, options: object, default: object, names: _Parsers
) -> Iterator[tuple[str, Any]]:
    for name in names:
        value = getattr(options, name)
        if value != getattr(default, name):
            yield f"{group}.{name}", value


def _to_text(value: Any) -> str:
    if isinstance(value, frozenset):
        return ",".join(trigger.name for trigger in sorted(value))
    if isinstance(value, NetworkPolicy):
        return " ".join(value.texts)
    return str(value.value) if isinstance(value, Durability | Stacks | SafePoints) else str(value)


def parse_options(pairs: Pairs) -> RecordedOptions:
    """Return the options among the pairs of a ProcessStart; the inverse of :func:`make_pairs`.

    Raises ``EngineMismatch`` for an unknown name or an invalid value.
    """
    groups: dict[str, dict[str, Any]] = {}
    for name, text in pairs:
        if not name.startswith(SESSION_PREFIX):
            continue
        option = name.removeprefix(SESSION_PREFIX)
        if option not in _PARSERS:
            raise EngineMismatch(
                f"the journal has the option {quote(name)}, unknown to this version"
            )
        try:
            value = _PARSERS[option](text)
        except (ValueError, KeyError, OptionError) as error:
            reason = f"the journal has an unknown value of {name}: {quote(text)}"
            raise EngineMismatch(reason) from error
        group, _, option = option.rpartition(".")
        groups.setdefault(group, {})[option] = value
    try:
        return _build(groups)
    except OptionError as error:
        raise EngineMismatch(f"the journal has an option that is invalid: {error}") from error


def find_network(pairs: Pairs) -> NetworkPolicy:
    """Return the network policy of a recording. Raises ``EngineMismatch`` for an invalid one."""
    name = SESSION_PREFIX + _NETWORK
    return parse_options(tuple(pair for pair in pairs if pair[0] == name)).network


def _build(groups: dict[str, dict[str, Any]]) -> RecordedOptions:
    options: dict[str, Any] = groups.get("", {})
    snapshots = groups.get("snapshots", {})
    options["snapshots"] = SnapshotOptions(**snapshots, by_default="on" not in snapshots)
    if "compaction" in groups:
        from journal.compaction import CompactionSchedule, RetentionPolicy  # Most runs need none.

        policy = RetentionPolicy(**groups.get("retention", {}))
        options["compaction"] = CompactionSchedule(policy, **groups["compaction"])
    if "segments" in groups:
        options["roll"] = RollPolicy(**groups["segments"])
        options["roll"].check()
    return RecordedOptions(**options)
