"""A journal that nobody can resume, although it looks like one: it says so itself, and why.

The mark is a name among what the run depends on, so that a version that does not know it refuses
the journal too.
"""

from journal.events import codec
from journal.events.definition import field_dict
from journal.events.process import ProcessStart

NOT_RESUMABLE = "not-resumable"
"""The name in ProcessStart.configuration; the value is the reason."""


GAPS_ALLOWED = "left-out"
"""The name of the opposite: numbers are missing, and a resume needs none of them; it says why."""


def with_flag(start: ProcessStart, reason: str, name: str = NOT_RESUMABLE) -> ProcessStart:
    """The same identity, of a journal that cannot be resumed for this reason, or else can."""
    if not_resumable_reason(start):
        return start
    pairs = (*start.configuration, (name, reason))
    return ProcessStart(**(field_dict(start) | {"configuration": pairs}))


def not_resumable_reason(start: ProcessStart) -> str:
    """Why a journal that begins so cannot be resumed; empty where it does not say so."""
    return next((value for name, value in start.configuration if name == NOT_RESUMABLE), "")


def has_gaps_allowed(start: ProcessStart) -> bool:
    """Whether the journal says that what is missing of it is not needed."""
    return any(name == GAPS_ALLOWED for name, _ in start.configuration)


def add_flag_to_payload(payload: bytes, reason: str, name: str = NOT_RESUMABLE) -> bytes:
    """The payload of a ProcessStart, marked; raises MalformedEvent."""
    start = codec.decode(ProcessStart.tag, payload)
    assert isinstance(start, ProcessStart)
    return codec.encode(with_flag(start, reason, name))
