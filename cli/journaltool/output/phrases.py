"""Short phrases for counts, sequence ranges, file locations and times."""

from datetime import UTC, datetime


def format_count(number: int, what: str) -> str:
    """``3 events``, ``1 event``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def format_seq_range(first_seq: int, last_seq: int) -> str:
    """``events 3 to 5``, ``event 3``, ``no event``."""
    if last_seq < first_seq:
        return "no event"
    return f"event {first_seq}" if first_seq == last_seq else f"events {first_seq} to {last_seq}"


def format_location(offset: int, file: str) -> str:
    """``at offset 7``, and of which file where there are several."""
    return f"at offset {offset} of {file}" if file else f"at offset {offset}"


def format_time(micros: int) -> str:
    """A time; a number where no calendar has it: a journal may come from anywhere."""
    try:
        return datetime.fromtimestamp(micros / 1e6, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return f"{micros} µs"
