"""Operations on whole journals, one public operation per module.

``journal`` exports the functions ``concat``, ``cut``, ``extract_files``, ``extract_memory``,
``filter``, ``fork``, ``map``, ``salvage`` and ``split``. This package exports their results, and
the operations that are used more rarely.
"""

from typing import TYPE_CHECKING

from journal._lazy import lazy_names

if TYPE_CHECKING:
    from journal.operations.concat import ConcatResult
    from journal.operations.extract import (
        EnvironmentResult,
        ExtractFilesResult,
        ExtractMemoryResult,
        archive_files,
        extract_environment,
    )
    from journal.operations.filter import FilterResult
    from journal.operations.fork import Fork
    from journal.operations.map import MapResult, count_processors
    from journal.operations.peer_statistics import PeersResult, PeerStatistics, collect_peers
    from journal.operations.salvage import SalvageResult
    from journal.operations.split import CutResult, JournalPart, SplitResult
    from journal.operations.statistics import (
        KindStatistics,
        PageStatistics,
        StatisticsResult,
        collect_statistics,
    )
    from journal.operations.verify import Verifier, VerifyCounts, VerifyCursor
    from journal.rewrite.bit_repair import BitRepair
    from journal.rewrite.block_copier import Loss
    from journal.rewrite.progress import ProgressCallback

_MODULES = {
    "BitRepair": "rewrite.bit_repair",
    "ConcatResult": "operations.concat",
    "CutResult": "operations.split",
    "EnvironmentResult": "operations.extract",
    "ExtractFilesResult": "operations.extract",
    "ExtractMemoryResult": "operations.extract",
    "FilterResult": "operations.filter",
    "Fork": "operations.fork",
    "JournalPart": "operations.split",
    "KindStatistics": "operations.statistics",
    "Loss": "rewrite.block_copier",
    "MapResult": "operations.map",
    "PageStatistics": "operations.statistics",
    "PeerStatistics": "operations.peer_statistics",
    "PeersResult": "operations.peer_statistics",
    "ProgressCallback": "rewrite.progress",
    "SalvageResult": "operations.salvage",
    "SplitResult": "operations.split",
    "StatisticsResult": "operations.statistics",
    "Verifier": "operations.verify",
    "VerifyCounts": "operations.verify",
    "VerifyCursor": "operations.verify",
    "archive_files": "operations.extract",
    "collect_peers": "operations.peer_statistics",
    "collect_statistics": "operations.statistics",
    "count_processors": "operations.map",
    "extract_environment": "operations.extract",
}
"""The modules of the public names."""

__all__ = [
    "BitRepair",
    "ConcatResult",
    "CutResult",
    "EnvironmentResult",
    "ExtractFilesResult",
    "ExtractMemoryResult",
    "FilterResult",
    "Fork",
    "JournalPart",
    "KindStatistics",
    "Loss",
    "MapResult",
    "PageStatistics",
    "PeerStatistics",
    "PeersResult",
    "ProgressCallback",
    "SalvageResult",
    "SplitResult",
    "StatisticsResult",
    "Verifier",
    "VerifyCounts",
    "VerifyCursor",
    "archive_files",
    "collect_peers",
    "collect_statistics",
    "count_processors",
    "extract_environment",
]

if not TYPE_CHECKING:  # A type checker sees the imports above.
    __getattr__, __dir__ = lazy_names(__name__, _MODULES)
