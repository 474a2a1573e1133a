"""Flags in ProcessStart that say whether and how a journal can be resumed.

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


SECRET_ENVIRONMENT = "secret-environment"
"""Name of the pair with the hash of the secret environment variables. Their entries in
``ProcessStart.environment`` have neither ``=`` nor a value.
"""


def find_secrets_hash(start: ProcessStart) -> str:
    """Return the hash of the secret variables; empty if no variable is secret."""
    return next((text for name, text in start.configuration if name == SECRET_ENVIRONMENT), "")


def list_secret_names(start: ProcessStart) -> list[str]:
    """Return the names of the secret environment variables of a recorded process."""
    if not find_secrets_hash(start):
        return []
    entries = (entry for entry in start.environment if b"=" not in entry)
    return [entry.decode("utf-8", "surrogateescape") for entry in entries]


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
