"""Python interface to record a guest and to resume it from its journal."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from journal._arguments import (
    check_callable,
    check_choice,
    check_each,
    check_flag,
    check_int,
    check_optional,
    check_path,
    check_text,
    check_type,
    refuse,
)
from journal.engine.allocation import DEFAULT_STRATEGY, InstanceAllocationStrategy
from journal.engine.configuration import Configuration, SnapshotOptions
from journal.engine.program.variant import Notify
from journal.engine.session.connection_check import LostConnections
from journal.engine.session.guest_time import SleepPolicy
from journal.engine.session.journal_trust import read_request
from journal.engine.session.recorder import Recorder
from journal.engine.session.resource_policy import ResourcePolicy, check_journal, check_policy
from journal.engine.session.run_config import (
    PROCESSES_MAX,
    EventCallback,
    Input,
    Output,
    RunConfig,
    StrPath,
    check_module,
    ignore_note,
)
from journal.engine.session.secret_environment import (
    SecretValue,
    check_secrets,
    encode_environment,
)
from journal.engine.session.session_builder import (
    RecordOptions,
    ResumeOptions,
    build_recorded,
    build_resumed,
)
from journal.engine.trust.access import decide_access
from journal.engine.trust.grants import Grants
from journal.engine.wasi.filesystem.mounts import (
    AnyMount,
    FileCopy,
    GenerationMount,
    HostMount,
    MemoryMount,
    check_copy,
    check_mount,
)
from journal.engine.wasi.network.listeners import check_listener
from journal.engine.wasi.network.policy import NetworkPolicy
from journal.engine.wasi.stdio.outbox import Durability, InFlightPolicy, OutputCallback
from journal.errors import OptionError
from journal.events.process import RecordingLevel
from journal.log.roll_policy import RollPolicy
from journal.rewrite.progress import ProgressCallback, ignore_progress, report_phase

if TYPE_CHECKING:
    from journal.compaction import CompactionSchedule


def record(  # long: each option is a keyword with its documentation
    module: bytes | StrPath,
    path: StrPath,
    *,
    args: Sequence[str | bytes] = (),
    env: Mapping[str, str | SecretValue] | None = None,
    mounts: Iterable[HostMount | MemoryMount] | None = None,
    listeners: Iterable[str] = (),
    copies: Iterable[FileCopy] = (),
    generation_file: bool = False,
    level: RecordingLevel = RecordingLevel.FULL,
    embed: bool = True,
    configuration: Configuration | None = None,
    roll: RollPolicy | None = None,
    stdin: Input = None,
    stdout: Output = None,
    stderr: Output = None,
    durability: Durability | None = None,
    cache: Path | None = None,
    approvals: Path | None = None,
    network: NetworkPolicy | None = None,
    snapshots: SnapshotOptions | None = None,
    compaction: "CompactionSchedule | None" = None,
    allocation: InstanceAllocationStrategy = DEFAULT_STRATEGY,
    on_event: EventCallback | None = None,
    on_output: OutputCallback | None = None,
    note: Notify = ignore_note,
    progress: ProgressCallback = ignore_progress,
    commands: Mapping[str, bytes | StrPath] | None = None,
    processes_max: int = PROCESSES_MAX,
    config: RunConfig | None = None,
) -> Recorder:
    """Create a journal at ``path`` and return a recorder that runs ``module`` in it.

    The guest starts when the recorder is entered as a context manager, or by
    :meth:`Recorder.start`.

    ``module`` is a WebAssembly module: its bytes or its path. ``args`` are the arguments of the
    program, its own name first (default: ``program``), and ``env`` its environment variables;
    the environment of the host is not inherited. The journal does not contain a value that is a
    :class:`SecretValue`, and a resume needs it again. ``mounts`` are the directories of the guest
    (default: one memory directory ``/``). ``listeners`` are the addresses, such as
    ``127.0.0.1:8080``, of listening sockets that the guest has from its start, numbered after the
    directories. Port 0 selects a free port. ``copies`` are host files that are copied into memory
    directories before the start. With ``generation_file`` the guest has the file
    ``/run/journal/generation``: 32 random digits, which change whenever the guest is reseeded, as
    in a fork. The guest cannot change the file.

    With ``level`` ``STATE`` inputs are not recorded, so the run can be resumed only from a
    snapshot. ``embed`` stores the module in the journal; without it a resume reads the module
    from its path. ``configuration`` has the limits of the engine. With ``roll`` the journal is a
    directory of segment files.

    The options from ``stdin`` to ``processes_max`` are those of :class:`RunConfig`. ``config``
    passes all of them at once instead.

    Raises ``ModuleRefused`` if the engine cannot run the module, ``OptionError`` for options
    that are invalid or contradict each other, ``NotResumable`` for a module that could not be
    found again, and ``StorageError`` if the disk fails. On an error no journal is left at
    ``path``. Safe to call from several threads with different paths.
    """
    streams, reporters = (stdin, stdout, stderr), (on_event, on_output, note, progress)
    engine = (cache, approvals, allocation, commands, processes_max)
    options_of_run = durability, engine, network, snapshots, compaction
    config = _choose(config, streams, *options_of_run, reporters)
    if mounts is None:
        mounts = [MemoryMount("/")]
    checked: list[AnyMount] = [*check_each("mounts", mounts, check_mount, what="mounts")]
    if check_flag("generation_file", generation_file):
        checked.append(GenerationMount())
    if roll is not None:
        check_type("roll", roll, RollPolicy).check()
    if configuration is None:
        configuration = Configuration()
    options = RecordOptions(
        arguments=check_each("args", args, _encode_argument, what="texts") or [b"program"],
        environment=encode_environment({} if env is None else env),
        mounts=checked,
        listeners=check_each("listeners", listeners, check_listener, what="texts"),
        copies=check_each("copies", copies, check_copy, what="copies"),
        level=check_choice("level", level, RecordingLevel),
        embed=check_flag("embed", embed),
        configuration=check_type("configuration", configuration, Configuration),
        roll=roll,
    )
    check_module("module", module)
    path = check_path("path", path)
    return build_recorded(module, path, config, options)


def resume(  # long: each option is a keyword with its documentation
    path: StrPath,
    *,
    module: bytes | StrPath | None = None,
    grants: Grants | None = None,
    in_flight: InFlightPolicy = InFlightPolicy.REPEAT,
    lost_connections: LostConnections = LostConnections.RESET,
    policy: ResourcePolicy | None = None,
    at: int | None = None,
    into: StrPath | None = None,
    reexecute: bool = False,
    strict: bool = True,
    secrets: Mapping[str, str | SecretValue] | None = None,
    sleep: SleepPolicy = SleepPolicy.KEEP,
    reseed: bool | None = None,
    on_input_wait: Callable[[bytes], object] | None = None,
    stdin: Input = None,
    stdout: Output = None,
    stderr: Output = None,
    durability: Durability | None = None,
    cache: Path | None = None,
    approvals: Path | None = None,
    network: NetworkPolicy | None = None,
    snapshots: SnapshotOptions | None = None,
    compaction: "CompactionSchedule | None" = None,
    allocation: InstanceAllocationStrategy = DEFAULT_STRATEGY,
    on_event: EventCallback | None = None,
    on_output: OutputCallback | None = None,
    note: Notify = ignore_note,
    progress: ProgressCallback = ignore_progress,
    commands: Mapping[str, bytes | StrPath] | None = None,
    processes_max: int = PROCESSES_MAX,
    config: RunConfig | None = None,
) -> Recorder:
    """Return a recorder that continues the run of the journal at ``path``.

    The guest starts when the recorder is entered. It is restored from the newest usable
    snapshot, replays the events after the snapshot, and continues live at the end of the
    journal. Without a usable snapshot, or with ``reexecute``, it is replayed from its start. If
    the program had ended, outputs not yet delivered are delivered and the recorder returns
    the recorded result at once.

    ``module`` is needed only if the journal does not contain its module. ``grants`` has the
    directories that the guest gets for the host mounts of the journal. They are not needed if this
    user recorded the journal, or approved it with :func:`journal.engine.approve`. ``in_flight``
    says whether the one write to a pipe or terminal that a crash left
    in doubt is repeated or dropped. ``lost_connections`` says whether the next use of a connection
    that was open fails with ``ECONNRESET``, or a guest with open connections is refused. A journal
    that may use more than ``policy`` allows is refused.

    ``secrets`` has the values of the environment variables that were secret when the journal was
    recorded. A missing or different value is refused before anything is written.

    ``sleep`` says whether a wait of the guest that was interrupted, for a second or longer, keeps
    its deadline or begins again. With ``KEEP`` the time since the start of the wait counts as
    waited, also on the monotonic clock of the guest.

    With ``reseed`` the guest is told that it is one of several with this history: its monotonic
    clock counts the time since the last session, and its generation file, if it has one, gets a new
    content. By default a run that continues in a new journal is reseeded.

    With ``into`` the run continues in a new journal at that path, and ``path`` is not changed.
    The new journal is a fork (see ``journal.fork``) with the events up to ``at``, an event's
    sequence number, or up to the newest resumable snapshot by default. ``at`` requires ``into``.

    Before the guest continues, the host is compared with the recording: standard input, the
    mounted directories, and the files that the guest had open. A difference raises
    ``HostMismatch``, before anything is written. With ``strict=False`` the run continues; a
    :class:`HostDiffers` warning tells each difference, and :attr:`Recorder.differences` has them.
    The soft limit of open files of this process is raised as far as the guest's files need.

    ``on_input_wait`` is called once, when the guest waits for input before it has written anything
    to a terminal in this session: a user sees nothing of it. It receives the unfinished last line
    of the recorded output to terminals, such as a prompt, which may be empty.

    The options from ``stdin`` to ``processes_max`` are those of :class:`RunConfig`. ``config``
    passes all of them at once instead. ``durability``, the triggers and kinds of ``snapshots``, the
    schedule of ``compaction`` and the sizes of segments are as recorded unless they are given.
    A regular file as input is read on from the recorded position; a
    regular file as output is compared with the recorded output, and receives only the rest.
    Listening and datagram sockets of the guest are created again; a :class:`SocketLost` warning
    tells of one that cannot be.

    Raises ``GrantsMissing`` for a journal that asks for more than is granted or approved,
    ``ResourceRefused`` for one that may use more than the policy allows,
    ``NotResumable`` for a journal without the data to resume it, ``ModuleMismatch`` for
    a different module, ``EngineMismatch`` for a different engine, platform or limit,
    ``HostMismatch`` for a host that differs or refuses to reopen a file of the guest,
    ``JournalLocked`` while another process writes the journal, ``OptionError`` for invalid
    options, and ``StorageError`` if the disk fails. A guest that behaves differently raises
    ``Divergence`` from :meth:`Recorder.wait`. Safe to call from several threads with different
    journals.
    """
    streams, reporters = (stdin, stdout, stderr), (on_event, on_output, note, progress)
    engine = (cache, approvals, allocation, commands, processes_max)
    options_of_run = durability, engine, network, snapshots, compaction
    config = _choose(config, streams, *options_of_run, reporters)
    options = ResumeOptions(
        module=module,
        grants=Grants() if grants is None else check_type("grants", grants, Grants),
        in_flight=check_choice("in_flight", in_flight, InFlightPolicy),
        lost_connections=check_choice("lost_connections", lost_connections, LostConnections),
        policy=check_policy(policy),
        reexecute=check_flag("reexecute", reexecute),
        strict=check_flag("strict", strict),
        secrets=check_secrets(secrets),
        sleep=check_choice("sleep", sleep, SleepPolicy),
        on_input_wait=on_input_wait,
        reseed=into is not None if reseed is None else check_flag("reseed", reseed),
    )
    check_optional("on_input_wait", on_input_wait, check_callable)
    check_optional("module", module, check_module)
    check_optional("at", at, check_int)
    path = check_path("path", path)
    if not path.exists():
        raise OptionError(f"journal {path} does not exist: it cannot be resumed")
    check_journal(path, options.policy)
    if at is None and into is None:
        return build_resumed(path, config, options)
    request = read_request(path)
    has_module = module is not None
    access = decide_access(
        request, options.grants, config.approvals, network=config.network, has_module=has_module
    )
    with report_phase(config.progress, "forking the journal"):
        path = _fork(path, at, into, reseed=options.reseed)
    return build_resumed(path, config, replace(options, access=access, reseed=False))


def _choose(
    config: RunConfig | None,
    streams: tuple[Input, Output, Output],
    durability: Durability | None,
    engine: tuple[
        Path | None,
        Path | None,
        InstanceAllocationStrategy,
        Mapping[str, bytes | StrPath] | None,
        int,
    ],
    network: NetworkPolicy | None,
    snapshots: SnapshotOptions | None,
    compaction: "CompactionSchedule | None",
    reporters: tuple[EventCallback | None, OutputCallback | None, Notify, ProgressCallback],
) -> RunConfig:
    """Return ``config`` if it is given, else the configuration of the keywords."""
    stdin, stdout, stderr = streams
    cache, approvals, allocation, commands, processes_max = engine
    on_event, on_output, note, progress = reporters
    keywords = RunConfig(
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        durability=durability,
        cache=cache,
        approvals=approvals,
        network=network,
        snapshots=snapshots,
        compaction=compaction,
        allocation=allocation,
        on_event=on_event,
        on_output=on_output,
        note=note,
        progress=progress,
        commands=commands,
        processes_max=processes_max,
    )
    if config is None:
        return keywords
    check_type("config", config, RunConfig)
    if keywords != RunConfig():
        raise OptionError(
            "options of a run are given both in config and as keywords: pass all of them in config"
        )
    return config


def _fork(path: StrPath, at: int | None, into: StrPath | None, *, reseed: bool) -> StrPath:
    """Create the journal ``into`` with the events of ``path`` up to ``at``, and return its path."""
    if into is None:
        raise OptionError("a resume at an event continues in a new journal: set its path (into)")
    from journal.operations.fork import fork  # Slow to import, and needed for forks only.

    return fork(path, check_path("into", into), at=at, reseed=reseed).path


def _encode_argument(name: str, argument: str | bytes) -> bytes:
    encoded = argument if isinstance(argument, bytes) else check_text(name, argument).encode()
    if b"\0" in encoded:
        refuse(name, "without a NUL character", argument)
    return encoded
