"""Classes of event kinds for compaction, derived from the rule declared on each event."""

from journal.events import BY_TAG
from journal.events.core import InitModule, ProcessExit
from journal.events.definition import (
    Consumed,
    Group,
    Keep,
    Latest,
    Marks,
    Region,
    Resets,
    Rewritten,
)
from journal.events.descriptors import FileDescriptorWrite
from journal.events.inputs import HostResult
from journal.events.memory import MemoryPages, UpdateMemoryRegion
from journal.events.paths import ChangeDirectory
from journal.events.process import Mount, ProcessStart, ProcessTrap
from journal.events.snapshots import (
    ClearEthereal,
    DescriptorPositions,
    DirectoryListing,
    SafePoint,
)
from journal.events.streams import StreamOpened
from journal.events.threads import CloseThread, GlobalsSet, SetThread, TableSet


def _tags_with_rule(*rules: type) -> frozenset[int]:
    return frozenset(tag for tag, cls in BY_TAG.items() if isinstance(cls.rule, rules))


SNAPSHOT_PARTS = frozenset(
    kind.tag
    for kind in (
        *(UpdateMemoryRegion, MemoryPages, GlobalsSet, TableSet, SetThread, CloseThread),
        *(SafePoint, DescriptorPositions, DirectoryListing),
    )
)
"""Kinds that snapshots consist of."""
SNAPSHOT_MARKERS = _tags_with_rule(Marks)
RESETS = frozenset((InitModule.tag, ProcessExit.tag, ProcessTrap.tag, ProcessStart.tag))
"""Kinds that start or end a process, and discard its memory and descriptors."""
HOST_PORTS = frozenset(
    tag for tag, cls in BY_TAG.items() if cls.group is Group.SOCKETS and isinstance(cls.rule, Keep)
)
REPLAYED = (
    frozenset(tag for tag, cls in BY_TAG.items() if cls.group in (Group.FILES, Group.SOCKETS))
    - HOST_PORTS
    - {ChangeDirectory.tag}
    | RESETS
    | {Mount.tag}
)
"""Kinds that change files and descriptors."""
ALWAYS_KEPT = (
    _tags_with_rule(Keep, Resets)
    # A resume needs the whole module, and the first target of each output.
    | (_tags_with_rule(Region) - SNAPSHOT_PARTS)
    | {StreamOpened.tag}
)
"""Kinds that compaction never drops."""
LATEST = _tags_with_rule(Latest) - ALWAYS_KEPT
REWRITTEN = _tags_with_rule(Rewritten)
HOST_RESULTS = frozenset((HostResult.tag,))
CONSUMED = _tags_with_rule(Consumed) - HOST_RESULTS
"""Inputs, dropped before a snapshot. Host results are dropped only if no state depends on them."""
ANALYSED = (REPLAYED | LATEST | HOST_RESULTS) - ALWAYS_KEPT
"""Kinds whose events are kept or dropped one by one."""
BOUNDARIES = SNAPSHOT_MARKERS | RESETS | {SafePoint.tag, ClearEthereal.tag}
WRITE_TAG, START_TAG = FileDescriptorWrite.tag, ProcessStart.tag
KNOWN_TAGS = frozenset(BY_TAG)

_CLASSES = (
    ALWAYS_KEPT,
    LATEST,
    REWRITTEN,
    HOST_RESULTS,
    CONSUMED,
    SNAPSHOT_PARTS,
    SNAPSHOT_MARKERS,
    REPLAYED - ALWAYS_KEPT,
)
assert sum(map(len, _CLASSES)) == len(KNOWN_TAGS), "each kind belongs to one class"
assert frozenset().union(*_CLASSES) == KNOWN_TAGS
