"""Test whether a journal records a process, which decides the meaning of the tags below 224."""

from typing import TYPE_CHECKING

from journal.errors import FormatError
from journal.format.block import Block
from journal.format.frame import Frame

if TYPE_CHECKING:
    from journal.events.opaque import OpaqueEvent


def starts_process(first: Block) -> bool:
    """Return whether a process starts with the first event of a journal; ``first`` is its block.

    Events of applications before the start do not count. In any other journal the application may
    have used the tags of this project for payloads of its own. Such a payload fits its kind only by
    accident, so its tag alone proves nothing.
    """
    from journal.events import codec
    from journal.events.core import InitModule
    from journal.events.process import ProcessStart
    from journal.events.tag_sets import APPLICATION

    for _, tag, payload in first.rows():
        if tag in (ProcessStart.tag, InitModule.tag):
            try:
                codec.decode(tag, payload)
            except FormatError:
                return False
            return True
        if tag not in APPLICATION:
            return False
    return False


def make_opaque(frame: Frame) -> "OpaqueEvent":
    """Return a frame as an event that is not decoded."""
    from journal.events.opaque import OpaqueEvent

    return OpaqueEvent(tag=frame.tag, payload=frame.payload)
