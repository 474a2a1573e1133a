"""What a compaction does with each kind of event, by the rule that is declared on it."""

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


def _ruled(*rules: type) -> frozenset[int]:
    return frozenset(tag for tag, cls in BY_TAG.items() if isinstance(cls.rule, rules))


STAGED = frozenset(
    kind.tag
    for kind in (
        *(UpdateMemoryRegion, MemoryPages, GlobalsSet, TableSet, SetThread, CloseThread),
        *(SafePoint, DescriptorPositions, DirectoryListing),
    )
)
"""What snapshots are made of."""
MARKS = _ruled(Marks)
RESETS = frozenset((InitModule.tag, ProcessExit.tag, ProcessTrap.tag, ProcessStart.tag))
"""What begins or ends a process: its machine and its descriptors are gone."""
PORTS = frozenset(
    tag for tag, cls in BY_TAG.items() if cls.group is Group.SOCKETS and isinstance(cls.rule, Keep)
)
PLAYED = (
    frozenset(tag for tag, cls in BY_TAG.items() if cls.group in (Group.FILES, Group.SOCKETS))
    - PORTS
    - {ChangeDirectory.tag}
    | RESETS
    | {Mount.tag}
)
"""What files and descriptors are made of."""
KEPT = (
    _ruled(Keep, Resets)
    # what ran is needed whole, and where the first outputs led is asked for as long as there is one
    | (_ruled(Region) - STAGED)
    | {StreamOpened.tag}
)
"""What is kept anyhow."""
LATEST = _ruled(Latest) - KEPT
REWRITTEN = _ruled(Rewritten)
ANSWERS = frozenset((HostResult.tag,))
CONSUMED = _ruled(Consumed) - ANSWERS
"""What goes in front of a snapshot; answers of the host only where nothing is made of them."""
JUDGED = (PLAYED | LATEST | ANSWERS) - KEPT
"""What is kept or not event by event."""
LANDMARKS = MARKS | RESETS | {SafePoint.tag, ClearEthereal.tag}
WRITE, START = FileDescriptorWrite.tag, ProcessStart.tag
KNOWN = frozenset(BY_TAG)

_ALL = (KEPT, LATEST, REWRITTEN, ANSWERS, CONSUMED, STAGED, MARKS, PLAYED - KEPT)
assert sum(map(len, _ALL)) == len(KNOWN), "each kind is one thing"
assert frozenset().union(*_ALL) == KNOWN
