"""Flags in ProcessStart that say whether a journal with dropped events can be resumed, and why.

A flag is an entry of ``ProcessStart.configuration``. A version that does not know the flag refuses
to resume the journal too, because the configuration must match.
"""

from journal.events import codec
from journal.events.definition import field_dict
from journal.events.process import ProcessStart

NOT_RESUMABLE = "not-resumable"
"""Name of the flag of a journal that cannot be resumed; its value is the reason."""

GAPS_ALLOWED = "left-out"
"""Name of the flag of a journal whose dropped events no resume needs; its value is a reason."""


def with_flag(start: ProcessStart, reason: str, name: str = NOT_RESUMABLE) -> ProcessStart:
    """Return ``start`` with a flag added, or unchanged if it is flagged as not resumable."""
    if not_resumable_reason(start):
        return start
    pairs = (*start.configuration, (name, reason))
    return ProcessStart(**(field_dict(start) | {"configuration": pairs}))


def not_resumable_reason(start: ProcessStart) -> str:
    """Return the reason why a journal is flagged as not resumable; empty if it is not flagged."""
    return next((value for name, value in start.configuration if name == NOT_RESUMABLE), "")


def has_gaps_allowed(start: ProcessStart) -> bool:
    """Return whether a journal is flagged as resumable despite its dropped events."""
    return any(name == GAPS_ALLOWED for name, _ in start.configuration)


def add_flag_to_payload(payload: bytes, reason: str, name: str = NOT_RESUMABLE) -> bytes:
    """Return a ProcessStart payload with a flag added. Raises MalformedEvent."""
    start = codec.decode(ProcessStart.tag, payload)
    assert isinstance(start, ProcessStart)
    return codec.encode(with_flag(start, reason, name))
