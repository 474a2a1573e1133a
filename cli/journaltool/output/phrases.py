"""Short phrases for counts, sequence ranges, file locations and times."""

from datetime import UTC, datetime


def format_count(number: int, what: str) -> str:
    """Return a count with its noun: ``3 events``, ``1 event``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def format_seq_range(first_seq: int, last_seq: int) -> str:
    """Return a range of events: ``events 3 to 5``, ``event 3``, ``no event``."""
    if last_seq < first_seq:
        return "no event"
    return f"event {first_seq}" if first_seq == last_seq else f"events {first_seq} to {last_seq}"


def format_location(offset: int, file: str) -> str:
    """Return a location: ``at offset 7``, followed by the file unless its name is empty."""
    return f"at offset {offset} of {file}" if file else f"at offset {offset}"


def name_kind(tag: int) -> str:
    """Return the name of a kind that is not declared: ``application(230)``, ``unknown(100)``."""
    from journal.format.frame import APPLICATION_TAG_MIN

    return f"application({tag})" if tag >= APPLICATION_TAG_MIN else f"unknown({tag})"


def format_time(micros: int) -> str:
    """Return a UTC time in ISO 8601, or a number of microseconds outside the calendar's range."""
    try:
        return datetime.fromtimestamp(micros / 1e6, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return f"{micros} µs"
