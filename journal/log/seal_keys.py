"""Choice of the keys that open and seal the journals of a process."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from journal._arguments import refuse
from journal.fs.byte_source import ByteSource

if TYPE_CHECKING:
    from journal.format.seal_key import SealKey


class ReadingKeys(NamedTuple):
    """Keys to try on a sealed journal. If ``is_required``, no other journal is accepted.

    > Why required? Otherwise a copy without a seal, which anybody can make, would replace a sealed
    journal, and nobody would notice.
    """

    keys: "tuple[SealKey, ...]" = ()
    is_required: bool = False


NO_KEYS = ReadingKeys()


class KeyedSource(ByteSource):
    """A segment file, with the keys to try on it."""

    __slots__ = ("keys",)

    def __init__(
        self,
        descriptor: int,
        size: int,
        name: str = "",
        keys: ReadingKeys = NO_KEYS,
        *,
        zero_unreadable: bool = False,
    ) -> None:
        super().__init__(descriptor, size, name, zero_unreadable=zero_unreadable)
        self.keys = keys


class ProcessKeys:
    """Keys that readers and writers of this process use if they are given none.

    ``reading`` opens journals. ``writing`` seals new journals, and opens those that were just
    made. The command line sets both; callers of the library pass ``key``.
    """

    __slots__ = ("reading", "writing")

    def __init__(self) -> None:
        self.reading: SealKey | None = None
        self.writing: SealKey | None = None


PROCESS_KEYS = ProcessKeys()


SerializedKeys = tuple[bytes | None, bytes | None]
"""Secrets of the keys with which a process reads and writes."""


def serialize_keys() -> SerializedKeys:
    """Return the keys of this process for another process of the same user."""
    reading, writing = PROCESS_KEYS.reading, PROCESS_KEYS.writing
    return (
        None if reading is None else reading.serialize(),
        None if writing is None else writing.serialize(),
    )


def use_serialized_keys(keys: SerializedKeys) -> None:
    """Let this process use the keys of the process that started it."""
    if keys == (None, None):
        return
    from journal.format.seal_key import SealKey  # Slow to import, and rarely needed.

    made = [None if data is None else SealKey.deserialize(data) for data in keys]
    PROCESS_KEYS.reading, PROCESS_KEYS.writing = made


def check_key(key: "SealKey | None") -> "SealKey | None":
    """Return ``key``. Raises OptionError unless it is a SealKey or None."""
    if key is None:
        return None
    from journal.format.seal_key import SealKey  # Slow to import, and rarely needed.

    if not isinstance(key, SealKey):
        refuse("key", "a SealKey", key)
    return key


@contextmanager
def using_key(key: "SealKey | None", *, writing: "SealKey | None" = None) -> Iterator[None]:
    """Let all readers and writers of this process use a key unless they are given one.

    All functions of the library that take a path open sealed journals in this way. With ``key``,
    journals without a seal are refused. New journals are sealed with ``writing``, or with ``key``.
    """
    before = PROCESS_KEYS.reading, PROCESS_KEYS.writing
    PROCESS_KEYS.reading, PROCESS_KEYS.writing = check_key(key), check_key(writing)
    try:
        yield
    finally:
        PROCESS_KEYS.reading, PROCESS_KEYS.writing = before


def choose_reading_keys(key: "SealKey | None") -> ReadingKeys:
    """Return the keys with which to read a journal for which the caller gave ``key``."""
    if key is not None:
        return ReadingKeys((key,), True)
    reading, writing = PROCESS_KEYS.reading, PROCESS_KEYS.writing
    if reading is None and writing is None:
        return NO_KEYS
    keys = tuple(key for key in (reading, writing) if key is not None)
    return ReadingKeys(keys, reading is not None)


def choose_writing_key(key: "SealKey | None") -> "SealKey | None":
    """Return the key with which to seal a new journal for which the caller gave ``key``."""
    return key or PROCESS_KEYS.writing or PROCESS_KEYS.reading
