"""Snapshots of a journal: their catalog, their triggers, and whether a resume can use them."""

from typing import TYPE_CHECKING

from journal._lazy import lazy_names

if TYPE_CHECKING:
    from journal.events.snapshots import Trigger
    from journal.snapshots.catalog import SnapshotInfo, list_snapshots

_MODULES = {
    "SnapshotInfo": "snapshots.catalog",
    "Trigger": "events.snapshots",
    "list_snapshots": "snapshots.catalog",
}
"""The modules of the public names."""

__all__ = [
    "SnapshotInfo",
    "Trigger",
    "list_snapshots",
]

if not TYPE_CHECKING:  # A type checker sees the imports above.
    __getattr__, __dir__ = lazy_names(__name__, _MODULES)
