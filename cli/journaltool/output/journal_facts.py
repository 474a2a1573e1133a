"""Facts about a journal from its headers and a few events, without a replay."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from journaltool.output import lenient_reader, progress

if TYPE_CHECKING:
    from journal import Event, Reader
    from journal.events.core import ProcessExit
    from journal.events.process import Listener, Mount, ParentLink, ProcessStart, ProcessTrap
    from journal.events.processes import ChildStart, ChildStarted, ProcessReplaced
    from journal.log import Summary


@dataclass(slots=True)
class JournalFacts:
    """Header summary and rare events of a journal. A missing event is None.

    ``writer`` is the id of the process that writes the journal: None if no process does, 0 if its
    id is not known. ``is_checked`` says whether all that a resume reads has been read. Of the
    ``files`` of a directory, ``shared_files`` have another name too, as those of a fork. ``child``
    says how another process started this one, and ``started`` what this one has started.
    """

    summary: "Summary"
    start: "ProcessStart | None" = None
    mounts: "list[Mount]" = field(default_factory=list)
    listeners: "list[Listener]" = field(default_factory=list)
    parent: "ParentLink | None" = None
    ending: "ProcessExit | ProcessTrap | ProcessReplaced | None" = None
    child: "ChildStart | None" = None
    started: "list[ChildStarted]" = field(default_factory=list)
    sessions: int = 0
    sealed: bool = False
    writer: int | None = None
    is_checked: bool = True
    files: int = 1
    shared_files: int = 0
    connections: int | None = None


CHECK_SIZE_MAX = 32 << 20
"""Size of a journal in bytes up to which ``info`` reads what a resume would read."""

PROCESS_START = 128
"""Tag of ProcessStart, the first event of a recorded process. The class is slow to import."""


def collect_facts(reader: "Reader") -> JournalFacts:
    """Read the headers and, if the journal records a process, the blocks with rare events."""
    from journal.log.lock_holder import find_writer

    facts = JournalFacts(reader.summary(), writer=find_writer(reader.path))
    if not _is_process_journal(reader, facts.summary):
        return facts
    from journal.events import core, process
    from journal.log.segment_files import count_shared_files, list_segments

    facts.shared_files = count_shared_files(reader.path)
    facts.files = len(list_segments(reader.path)) if reader.path.is_dir() else 1
    for event in _read_rare_events(reader):
        if isinstance(event, process.ProcessStart):
            facts.start = facts.start or event
        elif isinstance(event, process.Mount):
            facts.mounts.append(event)
        elif isinstance(event, process.Listener):
            facts.listeners.append(event)
        elif isinstance(event, process.ParentLink):
            facts.parent = event
        elif isinstance(event, process.SessionStart):
            facts.sessions += 1
        elif isinstance(event, process.Seal):
            facts.sealed = True
        elif isinstance(event, core.ProcessExit | process.ProcessTrap):
            facts.ending = event
        else:
            _add_process_event(facts, event)
    facts.connections = _count_connections(reader, facts.summary)
    return facts


def _count_connections(reader: "Reader", summary: "Summary") -> int | None:
    """Return the number of connections that the guest accepted, or requested with success.

    Those of a large journal are not counted.
    """
    if summary.size > CHECK_SIZE_MAX:
        return None
    from journal.events.sockets import SocketAccepted, SocketConnected

    tags = frozenset((SocketAccepted.tag, SocketConnected.tag))
    blocks = lenient_reader.read_blocks(reader, 0, tags, lambda error: None)
    return sum(block.tags.count(tag) for block in blocks for tag in tags)


def _add_process_event(facts: JournalFacts, event: "Event") -> None:
    """Add an event about other processes to the facts."""
    from journal.events import processes

    if isinstance(event, processes.ChildStart):
        facts.child = event
    elif isinstance(event, processes.ProcessReplaced):
        facts.ending = event
    elif isinstance(event, processes.ChildStarted) and not event.errno:
        facts.started.append(event)


def _is_process_journal(reader: "Reader", summary: "Summary") -> bool:
    first = next(lenient_reader.read_blocks(reader, 0, None, lambda error: None), None)
    # If the first block is lost, other blocks can still have the rare events.
    return first is not None and (PROCESS_START in first.tags or bool(summary.damage))


def _read_rare_events(reader: "Reader") -> "Iterator[Event]":
    from journal.errors import MalformedEvent
    from journal.events import codec, core, process, processes

    kinds = (
        core.ProcessExit,
        process.ProcessStart,
        process.Listener,
        process.Mount,
        process.SessionStart,
        process.ProcessTrap,
        process.ParentLink,
        process.Seal,
        processes.ChildStart,
        processes.ChildStarted,
        processes.ProcessReplaced,
    )
    tags = frozenset(kind.tag for kind in kinds)
    # The summary already has the damage.
    for block in lenient_reader.read_blocks(reader, 0, tags, lambda error: None):
        found = [index for index, tag in enumerate(block.tags) if tag in tags]
        payloads = block.payloads() if found else []
        for index in found:
            try:
                yield codec.decode(block.tags[index], payloads[index], block.offset)
            except MalformedEvent:  # verify reports it.
                continue


def resume_obstacle(
    path: Path, facts: JournalFacts, approvals: Path | None, cache: Path | None
) -> str:
    """Return the reason why the journal cannot be resumed here without options, or empty.

    ``approvals`` is the directory of the approvals, ``cache`` that of modules. The events are read
    only in a journal that is not large.
    """
    start, summary = facts.start, facts.summary
    if start is None:
        return "the journal has no ProcessStart event: it does not record a process"
    from journal.errors import JournalError
    from journal.events.process import RecordingLevel

    if any(damage.acknowledged for damage in summary.damage):
        return "events that had been durable are lost"
    try:
        obstacle = _engine_obstacle(start, facts, approvals)
    except JournalError as error:
        return str(error)
    if obstacle or facts.writer is not None:
        return obstacle or f"{describe_writer(facts.writer)} writes it"
    facts.is_checked = summary.size <= CHECK_SIZE_MAX
    if not facts.is_checked:
        needs_snapshot = start.level is not RecordingLevel.FULL and facts.ending is None
        return "it was recorded with --level state" if needs_snapshot else ""
    from journal.engine.session.resume_check import find_recording_obstacle

    with progress.show_phase("reading the recorded run", quiet=False):
        return find_recording_obstacle(path, cache)


def describe_writer(pid: int | None) -> str:
    """Return a phrase for the process that writes a journal."""
    return f"process {pid}" if pid else "another process"


def _engine_obstacle(start: "ProcessStart", facts: JournalFacts, approvals: Path | None) -> str:
    """Return the reason why the engine cannot run here, or raise the JournalError of a resume."""
    from journal._platform import require_linux

    require_linux("running a guest")
    try:
        from journal.engine.configuration import parse_configuration
        from journal.engine.session import preamble
        from journal.engine.trust.access import decide_access
        from journal.engine.trust.grants import Grants
    except ModuleNotFoundError as error:
        if error.name != "wasmtime":
            raise
        return "wasmtime is not installed here: pip install 'wasm-journal[engine]'"
    configuration = parse_configuration(start.configuration)
    identity = preamble.Identity(
        start, configuration, None, mounts=facts.mounts, listeners=facts.listeners
    )
    if facts.ending is None:  # A program that has ended needs no engine and no access.
        preamble.check_engine(identity)
        request = preamble.make_request(facts.summary.journal_id, identity)
        access = decide_access(request, Grants(), approvals)
        if not start.embedded:
            preamble.find_module(identity, None, access)
    return ""
