"""Compaction: a shorter journal that plays to the same states.

What it does with each kind of event is said by the rule that is declared on it; what it leaves is
judged again, and must lead to the same states, before it gets its name.
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
