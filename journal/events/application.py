"""Declarations of the events of applications, which have tags of their own."""

from journal.events.definition import Event, Group, Keep, Role, event
from journal.events.wire_types import U8, Text, TextPairs


@event(tag=136, group=Group.APPLICATION, role=Role.RECORDING, rule=Keep())
class ApplicationKind(Event):
    """Declaration of a kind of application events.

    ``number`` is the tag of the kind, ``name`` its name, and ``fields`` has the name and the type
    of each field, in wire order. format.md lists the types, and what makes a declaration void. It
    applies to the whole journal.
    """

    number: U8
    name: Text
    fields: TextPairs
