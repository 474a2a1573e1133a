"""The events of the format, one module per family."""

from journal.events import (
    application,
    core,
    descriptors,
    inputs,
    memory,
    paths,
    ports,
    process,
    processes,
    snapshots,
    sockets,
    streams,
    threads,
)
from journal.events.definition import Event, Group, Role
from journal.format.frame import APPLICATION_TAG_MIN, TAG_MAX, TAG_MIN

__all__ = [
    "APPLICATION_TAGS",
    "BY_TAG",
    "FAMILIES",
    "Event",
    "Group",
    "Role",
    "application",
    "core",
    "descriptors",
    "inputs",
    "memory",
    "paths",
    "ports",
    "process",
    "processes",
    "snapshots",
    "sockets",
    "streams",
    "threads",
]

FAMILIES = (
    core,
    process,
    processes,
    memory,
    threads,
    descriptors,
    paths,
    streams,
    sockets,
    ports,
    inputs,
    snapshots,
    application,
)


APPLICATION_TAGS = frozenset(range(APPLICATION_TAG_MIN, TAG_MAX + 1))
"""Tags that are reserved for the events of applications."""


def _collect_by_tag() -> dict[int, type[Event]]:
    classes = [
        member
        for family in FAMILIES
        for member in vars(family).values()
        if isinstance(member, type) and issubclass(member, Event) and member is not Event
    ]
    by_tag = {cls.tag: cls for cls in sorted(classes, key=lambda cls: cls.tag)}
    assert len(by_tag) == len(classes), "two events share a tag"
    assert all(TAG_MIN <= tag < APPLICATION_TAG_MIN for tag in by_tag), "a tag is reserved"
    return by_tag


BY_TAG = _collect_by_tag()
