"""Journals of other shapes than a file, one small class each; any of them fits behind any other.

A sink takes events, a source gives frames, some do both. ``Writer`` is a sink and ``Reader`` a
source.
"""

from journal.adapters.auto_close import AutoConsistent
from journal.adapters.compacting import Compacting
from journal.adapters.compacting_log import CompactingLog
from journal.adapters.concatenated import Concatenated
from journal.adapters.endpoints import Buffered, Null, Unsupported
from journal.adapters.pass_through import Counting, Filtered, FilteredSource, Printing
from journal.adapters.pipe import PipeSink, PipeSource, pipe
from journal.adapters.protocols import Shape, Sink, Source, Through, copy
from journal.adapters.recombine import Recombined, split
from journal.adapters.transaction import Transaction

__all__ = [
    "AutoConsistent",
    "Buffered",
    "Compacting",
    "CompactingLog",
    "Concatenated",
    "Counting",
    "Filtered",
    "FilteredSource",
    "Null",
    "PipeSink",
    "PipeSource",
    "Printing",
    "Recombined",
    "Shape",
    "Sink",
    "Source",
    "Through",
    "Transaction",
    "Unsupported",
    "copy",
    "pipe",
    "split",
]
