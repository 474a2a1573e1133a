"""Compaction: a shorter journal that plays to the same states.

What it does with each kind of event is said by the rule that is declared on it; what it leaves is
judged again, and must lead to the same states, before it gets its name.
"""

from journal.compaction.compactor import Compaction, Failure, Kind, compact
from journal.compaction.in_place import compact_in_place
from journal.compaction.online import Online, Tending, compact_online
from journal.compaction.retention import Policy
from journal.compaction.schedule import Upkeep

__all__ = [
    "Compaction",
    "Failure",
    "Kind",
    "Online",
    "Policy",
    "Tending",
    "Upkeep",
    "compact",
    "compact_in_place",
    "compact_online",
]
