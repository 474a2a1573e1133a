"""Configuration of one session of a run, for a new run and for a resumed one."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from journal._arguments import (
    check_callable,
    check_choice,
    check_int,
    check_mapping,
    check_optional,
    check_path,
    check_text,
    check_type,
    refuse,
)
from journal.engine.allocation import (
    DEFAULT_STRATEGY,
    InstanceAllocationStrategy,
    check_allocation,
)
from journal.engine.configuration import SnapshotOptions
from journal.engine.program.variant import Notify
from journal.engine.wasi.network.policy import NetworkPolicy
from journal.engine.wasi.stdio.outbox import Durability, OutputCallback
from journal.engine.wasi.stdio.stdin import FedSource
from journal.errors import OptionError
from journal.format.frame import Frame
from journal.rewrite.progress import ProgressCallback, ignore_progress

if TYPE_CHECKING:
    from journal.compaction import CompactionSchedule

Input = bytes | int | IO[Any] | FedSource | None
Output = int | IO[Any] | None
EventCallback = Callable[[Frame], object]
"""Function that receives an event that was appended to the journal."""

PROCESSES_MAX = 64
"""Default of the largest number of processes of a run."""

PROCESSES_LIMIT = 4096
"""Largest number of processes that can be allowed: each has a thread and an instance."""

_COMMAND = re.compile(r"[^\s/\0=]{1,255}")
_DESCRIPTOR_MAX = (1 << 31) - 1
StrPath = str | os.PathLike[str]


def _check_stream(name: str, value: object, *others: type) -> None:
    """Raise OptionError unless a value is None, a descriptor, a file object, or of ``others``."""
    if value is None or isinstance(value, others):
        return
    if isinstance(value, int):
        check_int(name, value, 0, _DESCRIPTOR_MAX)
    try:
        os.fstat(value if isinstance(value, int) else value.fileno())  # type: ignore[attr-defined]
    except (AttributeError, TypeError, ValueError, OSError):  # Also a closed one.
        allowed = "None, an open descriptor or an open file object"
        refuse(name, allowed + "".join(f" or {kind.__name__}" for kind in others), value)


def check_module(name: str, module: bytes | StrPath) -> bytes | StrPath:
    """Return the bytes or the path of a module."""
    return module if isinstance(module, bytes) else check_path(name, module)


def check_commands(
    name: str, commands: Mapping[str, bytes | StrPath]
) -> dict[str, bytes | StrPath]:
    """Return the modules of commands by name."""
    checked = {}
    for command, module in check_mapping(name, commands).items():
        if not check_text("the name of a command", command) or not _COMMAND.fullmatch(command):
            refuse("the name of a command", "without a slash or a space, and not empty", command)
        checked[command] = check_module(f"command {command}", module)
    return checked


def ignore_note(text: str) -> None:
    """Ignore a remark for the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Options that :func:`record` and :func:`resume` share.

    For ``durability``, ``snapshots`` and ``compaction`` None means as recorded in a resume, and the
    default in a new run: output, no snapshots, and no compaction. An option that is given in a
    resume holds for that session. The other options are not recorded.

    ``stdin`` is bytes, a file object, a descriptor or a :class:`FedSource`. With None,
    :meth:`Recorder.feed` supplies the input. ``stdout`` and ``stderr`` are file objects or
    descriptors. With None, the recorder captures the output in memory. The caller keeps
    descriptors open until the recorder is closed, and closes them.

    ``durability`` says when output and changes of host files may happen relative to their
    events. ``cache`` is the directory of compiled modules and memory images (default: one in the
    cache directory of the user). ``approvals`` is the directory of the approvals of the user
    (default: ``~/.local/state/wasm-journal/approvals``). ``network`` is what the guest may do in
    the network of the host. None means nothing in a new run. In a resume it means as recorded, if
    this user recorded the journal or approved it; else a journal that had a network is refused.

    ``snapshots`` says when snapshots are taken. ``compaction`` says when the journal is
    compacted; it cannot be combined with a page index.

    ``allocation`` is the strategy by which wasmtime allocates the instance: :class:`OnDemand` or
    :class:`Pooling`. A new run records its limits of growth, so that a resume with another strategy
    is exact. A resume refuses a strategy that allows the guest less than its recording.

    ``on_output`` receives the output of a stream without a target, which is not captured then: the
    number of the stream, 1 or 2, and bytes, in the thread of the guest. It receives each byte once
    over all sessions of a journal; after a crash the call in doubt is repeated, as for a pipe. An
    exception in it ends the run: :meth:`Recorder.wait` raises ``OutputLost``, and a resume passes
    the same output again.

    ``on_event`` receives each event from the start of the session on, after it was appended: it may
    not be durable yet, and its offset is -1. Any thread of the recorder may call it. An exception
    in it stops the guest, as :meth:`Recorder.stop` does, and :meth:`Recorder.wait` raises it.

    ``commands`` has the programs that the guest may start in other processes, or execute in its
    place (default: none): the module of each, as bytes or a path, by its name. The guest finds
    ``NAME`` also as ``/bin/NAME`` and ``/usr/bin/NAME``. Nothing else can be started, and a run has
    at most ``processes_max`` processes at a time.

    ``note`` receives remarks for the user, from the calling thread or threads of the recorder.
    ``progress`` receives the phases that may take long before the guest continues: the name of a
    phase, how much of it is done, and its size. Each phase ends with a call in which both numbers
    are the same. A replay ends its phase when it delivers output, and begins it again afterwards.
    """

    stdin: Input = None
    stdout: Output = None
    stderr: Output = None
    durability: Durability | None = None
    cache: Path | None = None
    approvals: Path | None = None
    network: NetworkPolicy | None = None
    snapshots: SnapshotOptions | None = None
    compaction: "CompactionSchedule | None" = None
    allocation: InstanceAllocationStrategy = DEFAULT_STRATEGY
    on_event: EventCallback | None = None
    on_output: OutputCallback | None = None
    note: Notify = ignore_note
    progress: ProgressCallback = ignore_progress
    commands: Mapping[str, bytes | StrPath] | None = None
    processes_max: int = PROCESSES_MAX

    def __post_init__(self) -> None:
        _check_stream("stdin", self.stdin, bytes, FedSource)
        _check_stream("stdout", self.stdout)
        _check_stream("stderr", self.stderr)
        if self.durability is not None:
            durability = check_choice("durability", self.durability, Durability)
            object.__setattr__(self, "durability", durability)
        for name in ("cache", "approvals"):
            path = check_optional(name, getattr(self, name), check_path)
            object.__setattr__(self, name, path)
        check_optional("network", self.network, check_type, NetworkPolicy)
        if self.snapshots is not None:
            check_type("snapshots", self.snapshots, SnapshotOptions)
        if self.compaction is not None:
            from journal.compaction import CompactionSchedule  # Most runs need none.

            check_type("compaction", self.compaction, CompactionSchedule)
        check_allocation("allocation", self.allocation)
        for name in ("on_event", "on_output"):
            check_optional(name, getattr(self, name), check_callable)
        commands = check_optional("commands", self.commands, check_commands)
        object.__setattr__(self, "commands", commands)
        check_int("processes_max", self.processes_max, 1, PROCESSES_LIMIT)
        check_callable("note", self.note)
        check_callable("progress", self.progress)
        is_compacting = self.compaction is not None and self.compaction.is_active
        if self.snapshots is not None and self.snapshots.page_index and is_compacting:
            raise OptionError(
                "a page index and compaction cannot be combined: "
                "compaction may drop pages that the index refers to"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionConfig(RunConfig):
    """Options of one session, of which none is left open."""

    durability: Durability = Durability.OUTPUT
    snapshots: SnapshotOptions = field(default_factory=SnapshotOptions)
