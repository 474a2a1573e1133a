"""Journals that are not files: sinks, sources, and wrappers that can be combined freely.

A sink accepts events and a source yields frames. ``Writer`` is a sink and ``Reader`` a source. All
public names are importable from ``journal.adapters``.
"""

from journal.adapters.auto_close import AutoClose
from journal.adapters.combined_journal import CombinedJournal, ReadWriteJournal, split
from journal.adapters.compacting_log import CompactingLog
from journal.adapters.compacting_sink import CompactingSink
from journal.adapters.concatenated_source import ConcatenatedSource
from journal.adapters.endpoints import MemoryJournal, NullJournal, RejectingJournal
from journal.adapters.filters import CountingSink, FilteredSink, FilteredSource, PrintingSink
from journal.adapters.pipe import PipeSink, PipeSource, pipe
from journal.adapters.protocols import Adapter, ForwardingSink, Sink, Source, copy
from journal.adapters.transaction import Transaction

__all__ = [
    "Adapter",
    "AutoClose",
    "CombinedJournal",
    "CompactingLog",
    "CompactingSink",
    "ConcatenatedSource",
    "CountingSink",
    "FilteredSink",
    "FilteredSource",
    "ForwardingSink",
    "MemoryJournal",
    "NullJournal",
    "PipeSink",
    "PipeSource",
    "PrintingSink",
    "ReadWriteJournal",
    "RejectingJournal",
    "Sink",
    "Source",
    "Transaction",
    "copy",
    "pipe",
    "split",
]
