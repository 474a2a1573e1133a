"""What there is to know of a journal without playing it: its headers, and a few of its events."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from journaltool.output import lenient_reader as reading

if TYPE_CHECKING:
    from journal import Event, Reader, Summary
    from journal.events.core import ProcessExit
    from journal.events.process import Mount, ParentLink, ProcessStart, ProcessTrap


@dataclass(slots=True)
class Facts:
    """A journal's headers, and what its rare events say; None where there is no such event."""

    summary: "Summary"
    start: "ProcessStart | None" = None
    mounts: "list[Mount]" = field(default_factory=list)
    parent: "ParentLink | None" = None
    ending: "ProcessExit | ProcessTrap | None" = None
    sessions: int = 0
    sealed: bool = False


PROCESS_START = 128
"""The tag of the event that the journal of a process begins with; its class is slow to import."""


def gather(reader: "Reader") -> Facts:
    """Read the headers; of the journal of a process also the blocks that say what ran."""
    facts = Facts(reader.summary())
    if not _is_of_process(reader, facts.summary):
        return facts
    from journal.events import core, process

    for event in _rare(reader):
        if isinstance(event, process.ProcessStart):
            facts.start = facts.start or event
        elif isinstance(event, process.Mount):
            facts.mounts.append(event)
        elif isinstance(event, process.ParentLink):
            facts.parent = event
        elif isinstance(event, process.SessionStart):
            facts.sessions += 1
        elif isinstance(event, process.Seal):
            facts.sealed = True
        elif isinstance(event, core.ProcessExit | process.ProcessTrap):
            facts.ending = event
    return facts


def _is_of_process(reader: "Reader", summary: "Summary") -> bool:
    first = next(reading.blocks(reader, 0, None, lambda error: None), None)
    # where the first block is lost, whatever else a process would have said is told
    return first is not None and (PROCESS_START in first.tags or bool(summary.damage))


def _rare(reader: "Reader") -> "Iterator[Event]":
    from journal.errors import MalformedEvent
    from journal.events import codec, core, process

    kinds = (
        core.ProcessExit,
        process.ProcessStart,
        process.Mount,
        process.SessionStart,
        process.ProcessTrap,
        process.ParentLink,
        process.Seal,
    )
    tags = frozenset(kind.tag for kind in kinds)
    # what is damaged stands in the summary already
    for block in reading.blocks(reader, 0, tags, lambda error: None):
        found = [index for index, tag in enumerate(block.tags) if tag in tags]
        payloads = block.payloads() if found else []
        for index in found:
            try:
                yield codec.decode(block.tags[index], payloads[index], block.offset)
            except MalformedEvent:  # verify tells of it
                continue


def obstacle(facts: Facts) -> str:
    """Why the journal cannot be resumed here; empty if it can."""
    start, summary = facts.start, facts.summary
    if start is None:
        return "it does not say what ran: it is not the journal of a process"
    from journal.errors import JournalError
    from journal.events.process import RecordingLevel

    if start.level is not RecordingLevel.FULL:
        return "it was recorded at level state"
    if any(damage.acknowledged for damage in summary.damage):
        return "events that were durable are lost"
    try:
        return _obstacle_of_engine(start)
    except JournalError as error:
        return str(error)


def _obstacle_of_engine(start: "ProcessStart") -> str:
    """Raises the JournalError that a resume would raise."""
    try:
        from journal.engine.configuration import parse_configuration
        from journal.engine.session import preamble as identities
    except ModuleNotFoundError as error:
        if error.name != "wasmtime":
            raise
        return "wasmtime is not installed here: pip install 'wasm-journal[engine]'"
    identity = identities.Identity(start, parse_configuration(start.configuration), None)
    identities.check_engine(identity, None)
    if not start.embedded:
        identities.find_module(identity, Path(start.module_path))
    return ""
