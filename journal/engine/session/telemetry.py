"""Spans and metrics of OpenTelemetry, for programs that use it.

The API of OpenTelemetry is used only if the program has imported it: a program that does not use it
pays nothing. The program configures exporters.
"""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from typing import Any

from journal._version import VERSION

_SCOPE = "journal"

Attributes = Mapping[str, str | int | bool]


class Telemetry:
    """Tracer and instruments of two providers; ``trace`` is the module of the API."""

    def __init__(self, trace: Any, tracers: Any, meters: Any) -> None:
        self._trace = trace
        self._tracer = tracers.get_tracer(_SCOPE, VERSION)
        meter = meters.get_meter(_SCOPE, VERSION)
        self.active_runs = meter.create_up_down_counter(
            "journal.runs.active", "{run}", "Guests that run in this process"
        )
        self.snapshot_seconds = meter.create_histogram(
            "journal.snapshot.duration", "s", "Time for which a snapshot suspends its guest"
        )
        self.compactions = meter.create_counter(
            "journal.compactions", "{compaction}", "Compactions of the journals of runs"
        )
        self.call_seconds = meter.create_histogram(
            "journal.call.duration", "s", "Duration of the calls of sessions"
        )

    def start_span(self, name: str, attributes: Attributes, parent: Any = None) -> Any:
        """Return a new span; without a parent it belongs to the current span of the caller."""
        return self._tracer.start_span(name, _in(self._trace, parent), attributes=attributes)

    def add_span(self, name: str, start_ns: int, attributes: Attributes, parent: Any) -> None:
        """Add a span that has just ended. ``start_ns`` is in nanoseconds since the epoch."""
        context = _in(self._trace, parent)
        span = self._tracer.start_span(name, context, attributes=attributes, start_time=start_ns)
        span.end()

    def end_span(self, span: Any, error: BaseException | None = None) -> None:
        """End a span; ``error`` gives it the status of a failure, without the error's text."""
        if error is not None:
            status = self._trace.StatusCode.ERROR
            span.set_status(self._trace.Status(status, type(error).__name__))
        span.end()


def _in(trace: Any, parent: Any) -> Any:
    return None if parent is None else trace.set_span_in_context(parent)


def find_telemetry() -> Telemetry | None:
    """Return the telemetry of this process, or None if the program does not use OpenTelemetry."""
    if "opentelemetry" not in sys.modules:
        return None
    try:
        metrics: Any = import_module("opentelemetry.metrics")
        trace: Any = import_module("opentelemetry.trace")
    except ImportError:  # Another package of this name, or a part of it.
        return None
    return _make(trace, trace.get_tracer_provider(), metrics.get_meter_provider())


@lru_cache(maxsize=4)
def _make(trace: Any, tracers: Any, meters: Any) -> Telemetry:
    """Return the telemetry of two providers, made once."""
    return Telemetry(trace, tracers, meters)


class CallTrace:
    """Call of a session; ``ending`` is set when it has a reply."""

    ending = "none"


@contextmanager
def trace_call(path: str) -> Iterator[CallTrace]:
    """Trace the body as a call of the session whose journal is at ``path``."""
    call, telemetry = CallTrace(), find_telemetry()
    if telemetry is None:
        yield call
        return
    start = time.perf_counter()
    span = telemetry.start_span("journal.call", {"journal.path": path})
    failure: BaseException | None = None
    try:
        yield call
    except BaseException as error:
        failure = error
        raise
    finally:
        seconds = time.perf_counter() - start
        span.set_attribute("journal.ending", call.ending)
        telemetry.call_seconds.record(seconds, {"journal.ending": call.ending})
        telemetry.end_span(span, failure)
