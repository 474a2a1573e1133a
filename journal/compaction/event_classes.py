"""Classes of event kinds for compaction, derived from the rule declared on each event."""

from journal.events import APPLICATION_TAGS
from journal.events.definition import (
    Consumed,
    Keep,
    Latest,
    Marks,
    Needed,
    Pinned,
    Resets,
    Rewritten,
)
from journal.events.descriptors import FileDescriptorWrite
from journal.events.process import ProcessStart
from journal.events.snapshots import ClearEthereal, SafePoint
from journal.events.tag_sets import KNOWN, RESETS, SNAPSHOT_PARTS, tags_with_rule

SNAPSHOT_MARKERS = tags_with_rule(Marks)
REPLAYED = tags_with_rule(Needed, Pinned, Resets)
"""Kinds that change files and descriptors."""
ALWAYS_KEPT = tags_with_rule(Keep, Pinned, Resets) | APPLICATION_TAGS
"""Kinds that compaction never drops."""
LATEST = tags_with_rule(Latest)
REWRITTEN = tags_with_rule(Rewritten)
CONSUMED = tags_with_rule(Consumed)
ANALYSED = tags_with_rule(Needed, Latest)
"""Kinds whose events are kept or dropped one by one."""
BOUNDARIES = SNAPSHOT_MARKERS | RESETS | {SafePoint.tag, ClearEthereal.tag}
WRITE_TAG, START_TAG = FileDescriptorWrite.tag, ProcessStart.tag

_CLASSES = (ALWAYS_KEPT, ANALYSED, REWRITTEN, CONSUMED, SNAPSHOT_PARTS, SNAPSHOT_MARKERS)
assert sum(map(len, _CLASSES)) == len(KNOWN), "each kind belongs to one class"
assert frozenset().union(*_CLASSES) == KNOWN
