"""Journals of other shapes than a file, one small class each; any of them fits behind any other.

A sink takes events, a source gives frames, some do both. ``Writer`` is a sink and ``Reader`` a
source.
"""

from journal.shapes.base import Shape, Sink, Source, Through, copy
from journal.shapes.compacting import Compacting
from journal.shapes.concatenated import Concatenated
from journal.shapes.consistent import AutoConsistent
from journal.shapes.ends import Buffered, Null, Unsupported
from journal.shapes.log_file import CompactingLog
from journal.shapes.pairs import Recombined, split
from journal.shapes.passing import Counting, Filtered, FilteredSource, Printing
from journal.shapes.pipe import PipeSink, PipeSource, pipe
from journal.shapes.transaction import Transaction

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
