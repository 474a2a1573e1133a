"""Export of journals to JSON lines and Parquet, and import of these files; export of packets."""

from journal.events.wire_types import Secret
from journal.export.exporter import ExportResult, export_lines
from journal.export.importer import ImportResult, import_lines
from journal.export.json_values import RedactedBytes
from journal.export.parquet import export_parquet, import_parquet
from journal.export.pcapng import ExportPcapngResult, export_pcapng
from journal.export.redaction import Redaction

__all__ = [
    "ExportPcapngResult",
    "ExportResult",
    "ImportResult",
    "RedactedBytes",
    "Redaction",
    "Secret",
    "export_lines",
    "export_parquet",
    "export_pcapng",
    "import_lines",
    "import_parquet",
]
