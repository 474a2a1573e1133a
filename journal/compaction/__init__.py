"""Compaction: writes a shorter journal that replays to the same states.

The rule declared on each event decides whether compaction may drop it. The surviving events are
analysed again, and must lead to the same states, before the new journal is published.
"""

from journal.compaction.compactor import CompactionMismatch, CompactionResult, KindCounts, compact
from journal.compaction.in_place import compact_in_place
from journal.compaction.online import BackgroundCompactor, OnlineCompactionResult, compact_online
from journal.compaction.retention import RetentionPolicy
from journal.compaction.schedule import CompactionSchedule

__all__ = [
    "BackgroundCompactor",
    "CompactionMismatch",
    "CompactionResult",
    "CompactionSchedule",
    "KindCounts",
    "OnlineCompactionResult",
    "RetentionPolicy",
    "compact",
    "compact_in_place",
    "compact_online",
]
