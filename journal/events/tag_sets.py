"""Sets of tags, derived from the group, the role and the rule that each kind of event declares."""

from journal.events import APPLICATION_TAGS, BY_TAG
from journal.events.core import InitModule
from journal.events.definition import (
    Closes,
    Copies,
    Group,
    Keep,
    Merged,
    Moves,
    Opens,
    Pinned,
    Resets,
    Role,
    Rule,
    Staged,
)
from journal.events.inputs import BytesReceived, HostResult
from journal.events.process import Listener, ProcessStart, SessionStart


def tags_in_group(*groups: Group) -> frozenset[int]:
    """Return the tags of the kinds in any of these groups."""
    return frozenset(tag for tag, cls in BY_TAG.items() if cls.group in groups)


def tags_with_role(role: Role) -> frozenset[int]:
    """Return the tags of the kinds with this role."""
    return frozenset(tag for tag, cls in BY_TAG.items() if cls.role is role)


def tags_with_rule(*rules: type[Rule]) -> frozenset[int]:
    """Return the tags of the kinds with any of these rules, or with a rule derived from them."""
    return frozenset(tag for tag, cls in BY_TAG.items() if isinstance(cls.rule, rules))


def find_group(tag: int) -> Group | None:
    """Return the group of the kind with this tag; None for an unknown kind."""
    if tag in APPLICATION_TAGS:
        return Group.APPLICATION
    return BY_TAG[tag].group if tag in BY_TAG else None


KNOWN = frozenset(BY_TAG) | APPLICATION_TAGS
"""Tags with a meaning: the kinds of this version, and all tags of applications."""
PREAMBLE = tags_with_role(Role.PREAMBLE)
PREAMBLE_FILES = PREAMBLE & tags_with_rule(Pinned)
"""Kinds that give the guest its first files and descriptors."""
PREAMBLE_CODE = PREAMBLE & tags_with_rule(Keep)
"""Kinds that change neither files nor descriptors, above all the modules."""
RECORDING = tags_with_role(Role.RECORDING) | APPLICATION_TAGS
"""Kinds that a replay skips."""
APPLICATION = tags_in_group(Group.APPLICATION) | APPLICATION_TAGS
"""Kinds of applications, and their declarations. They may be anywhere in a journal."""
INPUTS = tags_with_role(Role.INPUT)
SNAPSHOT_PARTS = tags_with_rule(Staged, Merged)
"""Kinds that snapshots consist of; those of RECORDING are in snapshots of this library."""
MEMORY = tags_in_group(Group.MEMORY)
"""Snapshot parts that hold linear memory, and most of the bytes of a journal."""
RESETS = tags_with_rule(Resets)
"""Kinds that start or end a process, and discard its memory and descriptors."""
SOCKET_OPENINGS = (tags_in_group(Group.SOCKETS) & tags_with_rule(Opens)) | {Listener.tag}
"""Kinds that open sockets. Without one of them a journal has no traffic."""
TRAFFIC = (
    tags_in_group(Group.SOCKETS)
    | tags_with_rule(Opens, Copies, Moves, Closes)
    | RESETS
    | {BytesReceived.tag, HostResult.tag, Listener.tag, SessionStart.tag}
)
"""Kinds from which the traffic of sockets follows."""
ENDS = RESETS - {InitModule.tag, ProcessStart.tag}
"""Kinds that end a process."""
