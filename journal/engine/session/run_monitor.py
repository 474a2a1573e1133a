"""Monitor of a run: it logs the stages of a run, and reports them to OpenTelemetry.

Log records and spans have paths, numbers and kinds, but never data or secrets of a guest. The
program configures the logger ``journal``; without a handler nothing is printed.
"""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journal.engine.session.run_result import ExitKind, RunResult
from journal.engine.session.telemetry import Attributes, Telemetry, find_telemetry
from journal.errors import Divergence, JournalError
from journal.events.snapshots import Trigger

if TYPE_CHECKING:
    from journal.compaction import CompactionResult


def _log(level: str, message: str, *values: object) -> None:
    """Log a message, if the program has imported ``logging``: others have no handler.

    > Why not import it here? It takes a fiftieth of the start of a command.
    """
    logging = sys.modules.get("logging")
    if logging is None:
        return
    logger = logging.getLogger("journal")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    getattr(logger, level)(message, *values, stacklevel=2)


class RunMonitor:
    """Monitor of one run, from the start of the guest to its end. ``path`` is the journal."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._telemetry: Telemetry | None = None
        self._span: Any = None
        self._start_ns = 0

    def start(self, *, is_resumed: bool) -> None:
        """Report that the guest starts: from its beginning, or to repeat its recorded run."""
        _log("info", "%s: the run is %s", self._path, "resumed" if is_resumed else "started")
        self._telemetry, self._start_ns = find_telemetry(), time.time_ns()
        if self._telemetry is not None:
            attributes: Attributes = {
                "journal.path": str(self._path),
                "journal.resumed": is_resumed,
            }
            self._span = self._telemetry.start_span("journal.run", attributes)
            self._telemetry.active_runs.add(1)

    def continue_live(self, seq: int) -> None:
        """Report that the replay is complete: the next event will have number ``seq``."""
        _log("info", "%s: the run continues live at event %d", self._path, seq)
        self._add_span("journal.replay", self._start_ns, {"journal.seq": seq})

    def take_snapshot(self, trigger: Trigger, seq: int, start_ns: int) -> None:
        """Report a snapshot whose Snapshot event has number ``seq``."""
        seconds = (time.time_ns() - start_ns) / 1e9
        kind = trigger.name.lower()
        _log(
            "info",
            "%s: snapshot %d was taken (%s) in %.1f ms",
            self._path,
            seq,
            kind,
            seconds * 1e3,
        )
        if self._telemetry is not None:
            self._telemetry.snapshot_seconds.record(seconds, {"journal.trigger": kind})
        attributes: Attributes = {"journal.seq": seq, "journal.trigger": kind}
        self._add_span("journal.snapshot", start_ns, attributes)

    def end_compaction(self, result: "CompactionResult | JournalError") -> None:
        """Report a compaction, or its failure, which leaves the journal as it was."""
        if isinstance(result, JournalError):
            _log("warning", "%s: the journal was not compacted: %s", self._path, result)
        else:
            kept, events = result.kept_events, result.events
            _log("info", "%s: compacted to %d of %d events", self._path, kept, events)
        if self._telemetry is not None:
            has_failed = isinstance(result, JournalError)
            self._telemetry.compactions.add(1, {"journal.failed": has_failed})

    def end(self, result: RunResult | None, error: BaseException | None) -> None:
        """Report the end of the run: its result, or its error."""
        if error is None:
            assert result is not None
            self._log_result(result)
        elif isinstance(error, Divergence):
            _log("error", "%s: the replay diverged at event %d", self._path, error.seq)
            _log("debug", "%s: %s", self._path, error)  # It has data of the guest.
        else:
            _log("error", "%s: the run failed: %s", self._path, type(error).__name__)
            _log("debug", "%s: %s", self._path, error)
        if self._telemetry is not None:
            self._telemetry.active_runs.add(-1)
            if result is not None:
                self._span.set_attribute("journal.ending", result.kind.value)
            self._telemetry.end_span(self._span, error)

    def _log_result(self, result: RunResult) -> None:
        if result.kind is ExitKind.EXITED:
            _log("info", "%s: the guest exited with code %d", self._path, result.code)
        elif result.kind is ExitKind.TRAPPED:
            _log("info", "%s: the guest trapped: %s", self._path, result.reason)
            _log("debug", "%s: %s", self._path, result.backtrace)
        elif result.kind is ExitKind.REPLACED:
            _log("info", "%s: another program replaced the guest", self._path)
        else:
            _log("info", "%s: the guest was stopped", self._path)

    def _add_span(self, name: str, start_ns: int, attributes: Attributes) -> None:
        if self._telemetry is not None:
            self._telemetry.add_span(name, start_ns, attributes, self._span)
