"""Log records, spans and metrics of runs."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import journal
from journal.compaction import CompactionSchedule
from journal.engine import SecretValue, SessionOpener, SnapshotOptions
from journal.events.snapshots import Trigger
from journal.events.streams import StreamWrite
from tests.support.guest_runs import wait_for_end
from tests.support.programs import guest
from tests.support.rewrites import frames_of, replace_event, rewrite

SNAPSHOTS = SnapshotOptions(on=frozenset({Trigger.EXPLICIT}))


def open_prompt(path: Path, cache: Path) -> SessionOpener:
    return journal.session(
        guest("prompt"), path, args=["prompt"], env={"KEY": SecretValue("hush")}, cache=cache
    )


def test_the_stages_of_a_run_are_logged_without_data_of_the_guest(
    tmp_path: Path, cache_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.journal"
    caplog.set_level(logging.DEBUG, "journal")
    with open_prompt(path, cache_dir) as session:
        session.run(b"set bread rye\n")
        seq = session.snapshot()
    with journal.resume_session(
        path, cache=cache_dir, secrets={"KEY": "hush"}, compaction=CompactionSchedule(on_close=True)
    ) as session:
        session.run(b"quit 3\n")
    messages = [record.message.removeprefix(f"{path}: ") for record in caplog.records]
    stages = [message.split(" ")[:4] for message in messages]
    assert stages == [
        ["the", "run", "is", "started"],
        ["snapshot", str(seq), "was", "taken"],
        ["the", "guest", "was", "stopped"],
        ["the", "run", "is", "resumed"],
        ["the", "run", "continues", "live"],
        ["the", "guest", "exited", "with"],
        ["compacted", "to", messages[-1].split()[2], "of"],
    ]
    assert {record.levelno for record in caplog.records} == {logging.INFO}
    for text in ("bread", "hush", "KEY"):
        assert text not in caplog.text


def record_lines(path: Path, cache: Path) -> None:
    """Record a run whose end is cut off, so that a resume replays it."""
    whole = path.with_name("whole.journal")
    with journal.record(
        guest("prompt"), whole, args=["prompt"], stdin=b"get rye\n", cache=cache
    ) as recorder:
        wait_for_end(recorder)
    with journal.Reader(whole) as reader:
        seqs = [frame.seq for frame in reader.frames(tags={StreamWrite.tag})]
    journal.cut(whole, path, at=seqs[1])


def test_a_divergence_is_logged_and_its_data_only_for_debugging(
    tmp_path: Path, cache_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, changed = tmp_path / "a.journal", tmp_path / "changed.journal"
    record_lines(path, cache_dir)
    index = next(i for i, frame in enumerate(frames_of(path)) if frame.tag == StreamWrite.tag)
    event = StreamWrite(stream=1, offset=0, data=b"9> ")
    rewrite(path, changed, lambda frames: replace_event(frames, index, event))
    caplog.set_level(logging.DEBUG, "journal")
    with (
        journal.resume(changed, stdin=b"get rye\n", cache=cache_dir) as recorder,
        pytest.raises(journal.Divergence),
    ):
        wait_for_end(recorder)
    (error,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert error.message == f"{changed}: the replay diverged at event {index}"
    details = [record for record in caplog.records if "9> " in record.message]
    assert [record.levelno for record in details] == [logging.DEBUG]


def test_a_failed_run_is_logged(
    tmp_path: Path, cache_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(stream: int, data: bytes) -> None:
        raise LookupError("hush")

    caplog.set_level(logging.INFO, "journal")
    path = tmp_path / "a.journal"
    with (
        journal.record(guest("prompt"), path, cache=cache_dir, on_output=fail) as recorder,
        pytest.raises(journal.OutputLost),
    ):
        wait_for_end(recorder)
    assert caplog.records[-1].message == f"{path}: the run failed: OutputLost"
    assert "hush" not in caplog.text


def test_the_library_configures_no_logging(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "a.journal"
    with journal.record(guest("cat"), path, stdin=b"", cache=cache_dir) as recorder:
        wait_for_end(recorder)
    logger = logging.getLogger("journal")
    assert [type(handler) for handler in logger.handlers] == [logging.NullHandler]
    assert logger.level == logging.NOTSET
    assert logger.propagate


def test_a_program_without_logging_does_not_import_it(tmp_path: Path, cache_dir: Path) -> None:
    code = (
        "import sys, journal, pathlib\n"
        "guest, path, cache = map(pathlib.Path, sys.argv[1:])\n"
        "with journal.record(guest, path, stdin=b'', cache=cache) as recorder: recorder.wait()\n"
        "print('logging' in sys.modules)"
    )
    paths = map(str, (guest("cat"), tmp_path / "a.journal", cache_dir))
    command = [sys.executable, "-c", code, *paths]
    assert subprocess.check_output(command, text=True) == "False\n"


def test_a_program_without_opentelemetry_does_not_import_it(
    tmp_path: Path, cache_dir: Path
) -> None:
    code = (
        "import sys, journal, pathlib\n"
        "with journal.session(sys.argv[1], cache=pathlib.Path(sys.argv[2]),"
        " snapshots=journal.engine.SnapshotOptions()) as session: session.run()\n"
        "print('opentelemetry' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(guest("prompt")), str(cache_dir)]
    assert subprocess.check_output(command, text=True) == "False\n"


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """Exporters of spans and of metrics, which this process uses for this test only."""
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry import metrics, trace
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(), MeterProvider([reader])
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: tracers)
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: meters)
    return spans, reader


def test_runs_and_calls_are_spans(
    tmp_path: Path, cache_dir: Path, exported: tuple[Any, Any]
) -> None:
    spans, _ = exported
    path = tmp_path / "a.journal"
    with open_prompt(path, cache_dir) as session:
        session.run(b"set bread rye\n")
        session.snapshot()
    with journal.resume_session(path, cache=cache_dir, secrets={"KEY": "hush"}) as session:
        session.run(b"quit 3\n")
    found = spans.get_finished_spans()
    runs = [span for span in found if span.name == "journal.run"]
    assert [run.attributes["journal.resumed"] for run in runs] == [False, True]
    assert [run.attributes["journal.ending"] for run in runs] == ["stopped", "exited"]
    numbers = {run.context.span_id: index for index, run in enumerate(runs)}
    children = [span for span in found if span.parent is not None]
    parents = {span.name: numbers[span.parent.span_id] for span in children}
    assert parents == {"journal.snapshot": 0, "journal.replay": 1}
    calls = [span for span in found if span.name == "journal.call"]
    assert [call.attributes["journal.ending"] for call in calls] == ["waiting", "exited"]
    for text in ("bread", "hush", "KEY"):
        assert text not in "".join(span.to_json() for span in found)


def test_metrics_count_runs_and_calls(
    tmp_path: Path, cache_dir: Path, exported: tuple[Any, Any]
) -> None:
    _, reader = exported
    with open_prompt(tmp_path / "a.journal", cache_dir) as session:
        session.run(b"set bread rye\n")
        session.snapshot()
        assert read_metrics(reader)["journal.runs.active"] == 1
    metrics = read_metrics(reader)
    assert metrics == {
        "journal.runs.active": 0,
        "journal.snapshot.duration": 1,
        "journal.call.duration": 1,
    }


def test_a_failed_run_is_a_failed_span(
    tmp_path: Path, cache_dir: Path, exported: tuple[Any, Any]
) -> None:
    def fail(stream: int, data: bytes) -> None:
        raise LookupError("hush")

    with (
        journal.session(guest("prompt"), cache=cache_dir, on_output=fail) as session,
        pytest.raises(journal.OutputLost),
    ):
        session.run()
    statuses = {span.name: span.status for span in exported[0].get_finished_spans()}
    for name in ("journal.run", "journal.call"):
        assert statuses[name].status_code.name == "ERROR"
        assert statuses[name].description == "OutputLost"


def read_metrics(reader: Any) -> dict[str, float]:
    """Return the sum of each counter, and the count of each histogram."""
    found: dict[str, float] = {}
    for resource in reader.get_metrics_data().resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                points = metric.data.data_points
                name = "count" if hasattr(points[0], "count") else "value"
                found[metric.name] = sum(getattr(point, name) for point in points)
    return found
