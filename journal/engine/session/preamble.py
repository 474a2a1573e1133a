"""Preamble of a journal: the identity of the run, with which it can be resumed elsewhere."""

import hashlib
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TypeVar

from journal._version import VERSION
from journal.engine.configuration import (
    ENGINE_NAME,
    HOST_REVISION,
    Configuration,
    get_platform,
    parse_configuration,
)
from journal.engine.program.module import GuestModule, load_module
from journal.engine.runtime import bindings
from journal.engine.session import preamble_check
from journal.engine.session.recorded_options import find_network
from journal.engine.session.resource_policy import (
    DEFAULT_POLICY,
    FILES_SIZE_MAX,
    ResourcePolicy,
    check_limit,
)
from journal.engine.session.secret_environment import GuestEnvironment, reveal_environment
from journal.engine.trust.access import HostAccess
from journal.engine.trust.access_request import AccessRequest
from journal.engine.wasi.filesystem.mounts import (
    FIRST_DESCRIPTOR,
    AnyMount,
    FileCopy,
    list_host_mounts,
    make_copy_events,
    make_mount_events,
)
from journal.engine.wasi.network.addresses import format_address
from journal.engine.wasi.network.listeners import make_listener_events
from journal.errors import (
    EngineMismatch,
    ModuleMismatch,
    ModuleRefused,
    NotResumable,
    OptionError,
)
from journal.events import codec, tag_sets
from journal.events.definition import Event
from journal.events.paths import FilePlaced
from journal.events.process import (
    HOST_MOUNTS,
    InstrumentedPart,
    Listener,
    ModulePart,
    Mount,
    MountKind,
    ProcessStart,
    RecordingLevel,
    SessionStart,
)
from journal.events.processes import ChildStart
from journal.events.streams import StreamDelivered, StreamOpened
from journal.format.block import Block
from journal.format.block_header import BLOCK_PAYLOAD_SIZE_MAX
from journal.log.writer import Writer
from journal.operations.reseeding import GENERATION_SIZE
from journal.snapshots.resume_flags import list_secret_names
from journal.vfs.generation import make_generation_file

PART_SIZE = 1 << 20
Part = TypeVar("Part", ModulePart, InstrumentedPart)

#: Tags that are looked up before a resume, without replaying.
RESUME_TAGS = tag_sets.ENDS | {StreamOpened.tag, StreamDelivered.tag}


@dataclass(slots=True)
class Identity:
    """Content of the preamble of a journal.

    ``environment`` has the values of secret variables too, and is None until these are known.
    ``copied_files`` has each event with its time in µs and its sequence number. ``instrumented``
    returns the instrumented module if the journal contains one. ``is_recorded`` says whether the
    preamble was read from a journal, and not written by this process. ``child`` says what the
    process got from the process that started it, None for the first process of a run.
    """

    start: ProcessStart
    configuration: Configuration
    module: GuestModule | None
    instrumented: Callable[[], bytes] | None = None
    mounts: list[Mount] = field(default_factory=list)
    listeners: list[Listener] = field(default_factory=list)
    copied_files: list[tuple[FilePlaced, int, int]] = field(default_factory=list)
    is_recorded: bool = False
    environment: tuple[bytes, ...] | None = None
    child: ChildStart | None = None

    @property
    def memory_mount_count(self) -> int:
        """Return the number of in-memory directories."""
        return sum(mount.kind not in HOST_MOUNTS for mount in self.mounts)


def write(  # long: it fills each field of ProcessStart
    writer: Writer,
    module: GuestModule,
    configuration: Configuration,
    recorded_options: Iterable[tuple[str, str]] = (),
    *,
    arguments: Sequence[bytes],
    environment: GuestEnvironment,
    mounts: Sequence[AnyMount],
    copies: Sequence[FileCopy],
    level: RecordingLevel,
    embed: bool,
    instrumented: bytes = b"",
    listeners: Sequence[socket.socket] = (),
    child: ChildStart | None = None,
    placed: Iterable[FilePlaced] = (),
) -> Identity:
    """Write the preamble of a new journal; with ``instrumented``, include that module.

    ``recorded_options`` are further pairs of the configuration, which do not affect the guest.
    ``child`` is for a process that another one starts, and ``placed`` are its files in memory.
    """
    if not embed and not module.path:
        raise NotResumable("a module given as bytes has no path: it must be embedded")
    variables, pairs = environment.conceal()
    start = ProcessStart(
        module_hash=module.hash,
        module_size=len(module.data),
        module_path=module.path,
        embedded=embed,
        arguments=tuple(arguments),
        environment=variables,
        level=level,
        engine=ENGINE_NAME,
        engine_version=bindings.VERSION,
        journal_version=VERSION,
        host_revision=HOST_REVISION,
        platform=get_platform(),
        configuration=(*configuration.to_pairs(), *recorded_options, *pairs),
        realtime=time.time_ns(),
    )
    identity = Identity(
        start,
        configuration,
        module,
        (lambda: instrumented) if instrumented else None,
        make_mount_events(mounts),
        environment=environment.variables,
        child=child,
    )
    first_fd = FIRST_DESCRIPTOR + len(identity.mounts)
    identity.listeners = make_listener_events(listeners, first_fd, module.data)
    events: list[Event] = [start]
    if embed:
        events += _split_module(module.data, ModulePart)
    events += _split_module(instrumented, InstrumentedPart)
    started = () if child is None else (child,)
    for event in (*events, *identity.mounts, *identity.listeners, *started):
        writer.append(event)
    count = identity.memory_mount_count
    files = chain(placed, _bound_copies(copies, configuration.files_size_max, count))
    if any(mount.kind is MountKind.GENERATION for mount in identity.mounts):
        files = chain((make_generation_file(os.urandom(GENERATION_SIZE)),), files)
    identity.copied_files = list(_write_copies(writer, files))
    return identity


def _write_copies(
    writer: Writer, files: Iterable[FilePlaced]
) -> Iterator[tuple[FilePlaced, int, int]]:
    for file in files:
        seq = writer.append(file)
        yield file, writer.time, seq


def _bound_copies(
    copies: Iterable[FileCopy], files_size_max: int, mounts: int
) -> Iterator[FilePlaced]:
    """Yield the copied files, which are in memory together, as far as a resume accepts them.

    Raises ``OptionError`` for more than fits into the in-memory directories.
    """
    size_max = preamble_check.COPIES_FACTOR_MAX * mounts * files_size_max
    size = 0
    for file in make_copy_events(copies, files_size_max):
        size += len(file.data)
        if size > size_max:
            raise OptionError(
                f"the copied files have more than {size_max} bytes: they do not fit into the "
                "in-memory directories of the guest"
            )
        yield file


def _split_module(data: bytes, kind: type[Part]) -> Iterator[Part]:
    for offset in range(0, len(data), PART_SIZE):
        yield kind(offset=offset, data=data[offset : offset + PART_SIZE])


def make_session_start(monotonic: int) -> SessionStart:
    """Return the event of a session that begins now, at this monotonic time in nanoseconds."""
    return SessionStart(
        realtime=time.time_ns(),
        monotonic=monotonic,
        engine_version=bindings.VERSION,
        journal_version=VERSION,
        platform=get_platform(),
    )


class _ModuleParts:
    """Blocks that contain the parts of a module, joined on demand."""

    def __init__(
        self, kind: type[ModulePart] | type[InstrumentedPart], policy: ResourcePolicy
    ) -> None:
        self._tag = kind.tag
        self._size_max = policy.module_size_max
        self._blocks: list[Block] = []
        self._size = 0

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def add_block(self, block: Block) -> None:
        """Add a block if it contains parts; raise ``ResourceRefused`` if these are too large."""
        if self._tag in block.tags:
            self._blocks.append(block)
            self._size += block.header.size
            # The blocks have other events, too.
            size_max = self._size_max + BLOCK_PAYLOAD_SIZE_MAX
            check_limit("bytes of stored module", self._size, size_max, "--max-module")

    def join(self) -> bytes:
        """Return the bytes of the module; raise ``NotResumable`` if parts are missing."""
        data = bytearray()
        for block in self._blocks:
            for index in block.select((self._tag,)):
                part = codec.decode(self._tag, block.payload(index), block.offset)
                assert isinstance(part, ModulePart | InstrumentedPart), "the tag says so"
                if part.offset != len(data):
                    raise NotResumable(
                        f"module part at event {block.seq(index)} begins at byte {part.offset}: it "
                        f"must begin at {len(data)}"
                    )
                size = len(data) + len(part.data)
                check_limit("bytes of module", size, self._size_max, "--max-module")
                data += part.data
        return bytes(data)


def read(blocks: Iterator[Block], policy: ResourcePolicy = DEFAULT_POLICY) -> tuple[Identity, int]:
    """Return the identity and the sequence number of the first event after the preamble.

    Raises ``NotResumable`` for a journal without a process, and ``ResourceRefused`` for one that
    exceeds the policy.
    """
    identity: Identity | None = None
    parts = {kind.tag: _ModuleParts(kind, policy) for kind in (ModulePart, InstrumentedPart)}
    for block in blocks:
        for module_parts in parts.values():
            module_parts.add_block(block)
        for index, tag in enumerate(block.tags):
            if tag in tag_sets.APPLICATION:
                continue
            if tag == ProcessStart.tag and identity is None:
                identity = _read_start(block, index)
                size, size_max = identity.start.module_size, policy.module_size_max
                check_limit("bytes of module", size, size_max, "--max-module")
                files = preamble_check.FilesCheck(identity.configuration.files_size_max)
            elif identity is None:
                raise _no_process_error()
            elif tag not in tag_sets.PREAMBLE:
                check_limit("directories", len(identity.mounts), policy.mounts_max, "--max-mounts")
                return _attach_modules(identity, *parts.values()), block.seq(index)
            elif tag not in parts:
                _add_event(identity, files, block, index)
    raise _no_process_error()


def _read_start(block: Block, index: int) -> Identity:
    start = codec.decode(ProcessStart.tag, block.payload(index), block.offset)
    assert isinstance(start, ProcessStart), "the tag says so"
    preamble_check.check_start(start)
    identity = Identity(start, parse_configuration(start.configuration), None, is_recorded=True)
    if not list_secret_names(start):
        identity.environment = start.environment
    return identity


def _no_process_error() -> NotResumable:
    return NotResumable("the journal has no ProcessStart event: it does not record a process")


def _add_event(
    identity: Identity, files: preamble_check.FilesCheck, block: Block, index: int
) -> None:
    event = codec.decode(block.tags[index], block.payload(index), block.offset)
    if isinstance(event, Mount):
        files.add_mount(event)
        identity.mounts.append(event)
    elif isinstance(event, Listener):
        preamble_check.check_listener(event, len(identity.mounts), len(identity.listeners))
        identity.listeners.append(event)
    elif isinstance(event, FilePlaced):
        files.add_copy(event)
        identity.copied_files.append((event, block.time(index), block.seq(index)))
    elif isinstance(event, ChildStart) and identity.child is None:
        preamble_check.check_child(event)
        identity.child = event
    else:
        kind = type(event).__name__
        raise NotResumable(f"the preamble has an unexpected {kind} event")


def _attach_modules(
    identity: Identity, module: _ModuleParts, instrumented: _ModuleParts
) -> Identity:
    """Set the functions that read the modules of the identity."""
    start = identity.start

    def read_module() -> bytes:
        data = module.join()
        if hashlib.sha256(data).digest() != start.module_hash:
            raise ModuleMismatch(
                f"the module in the journal has SHA-256 {hashlib.sha256(data).hexdigest()[:16]}…: "
                f"the recorded hash is {start.module_hash.hex()[:16]}…"
            )
        return data

    if start.embedded:
        identity.module = GuestModule.from_reader(start.module_hash, start.module_path, read_module)
    if instrumented:
        identity.instrumented = instrumented.join
    return identity


def set_secrets(identity: Identity, secrets: Mapping[str, str]) -> None:
    """Set the environment of the guest, with the values of its secret variables.

    Raises ``NotResumable`` if they are not those of the recorded run, and ``OptionError`` for a
    variable that is not secret.
    """
    if secrets or identity.environment is None:
        identity.environment = reveal_environment(identity.start, secrets)


def make_request(journal_id: bytes, identity: Identity) -> AccessRequest:
    """Return the access to the host that the journal asks for."""
    start, files_size = identity.start, identity.configuration.files_size_max
    return AccessRequest(
        journal_id,
        start.module_hash,
        list_host_mounts(identity.mounts),
        "" if start.embedded else start.module_path,
        files_size if files_size > FILES_SIZE_MAX and identity.memory_mount_count else 0,
        listeners=tuple(format_address(each.addr) for each in identity.listeners),
        rules=find_network(start.configuration).texts,
    )


def find_module(
    identity: Identity, source: bytes | str | os.PathLike[str] | None, access: HostAccess
) -> GuestModule:
    """Return the module to resume; raise ``ModuleMismatch`` if it is not the recorded module.

    The path that the journal names is read only if ``access`` grants it.
    """
    start = identity.start
    if source is not None:
        module = load_module(source, recorded_size=start.module_size)
        origin = module.path or "the source module"
    elif identity.module is not None:
        return identity.module
    elif not access.has_module_file:
        raise ModuleMismatch(
            "the journal does not contain its module: resume with the path of the module"
        )
    else:
        try:
            module = load_module(start.module_path, recorded_size=start.module_size)
        except ModuleRefused as error:
            raise ModuleMismatch(
                f"the journal does not contain its module, and {error}; "
                "resume with the path of the module"
            ) from error
        origin = start.module_path
    if module.hash != start.module_hash:
        raise ModuleMismatch(
            f"{origin} is not the recorded module: its SHA-256 is {module.hash.hex()[:16]}…, "
            f"the recorded one is {start.module_hash.hex()[:16]}…"
        )
    return module


def check_engine(identity: Identity) -> None:
    """Raise ``EngineMismatch`` unless this engine reproduces the recorded run."""
    start = identity.start
    if start.engine != ENGINE_NAME:
        raise EngineMismatch(
            f"the journal was recorded on the engine {start.engine}: this is {ENGINE_NAME}"
        )
    if start.engine_version.split(".")[0] != bindings.VERSION.split(".")[0]:
        raise EngineMismatch(
            f"the journal was recorded on {ENGINE_NAME} {start.engine_version}: "
            f"this is {bindings.VERSION}, which may limit the call depth differently"
        )
    if start.platform != get_platform():
        raise EngineMismatch(
            f"the journal was recorded on {start.platform}: this is {get_platform()}, "
            "which may limit the call depth differently"
        )
    if start.host_revision != HOST_REVISION:
        raise EngineMismatch(
            f"the journal needs revision {start.host_revision} of the host functions: this version "
            f"of journal has {HOST_REVISION}"
        )
