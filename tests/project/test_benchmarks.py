"""The benchmarks run, and draw correct conclusions. No test asserts a speed."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from benchmarks import (
    byte_streams,
    chart,
    jobs_verify,
    log_events,
    log_field,
    log_race,
    log_suite,
    micro,
    scaling_cases,
    scaling_process,
    scaling_runs,
    snap_guests,
    snap_resume,
    snap_suite,
    snap_take,
    stopwatch,
    suite,
    toolkit_journal,
    toolkit_operations,
    toolkit_snapshots,
    toolkit_suite,
    toolkit_work,
)
from benchmarks.chart import Bar, Group
from benchmarks.figures import Figure, Side, lines, ratios
from benchmarks.log_race import Clock, Result, Runner
from benchmarks.log_stores import Operation
from benchmarks.peers import Span
from journal import Reader, list_snapshots, record
from journal.events.codec import decode
from journal.events.descriptors import FileDescriptorWrite
from journal.replay import ModelHost, play
from tests.support.programs import program

TINY = log_suite.Counts(events=300, pages=40, lookups=20, commits=16, mebibytes=1, starts=1)
TINY_KIT = toolkit_suite.Counts(toolkit_journal.Size(640, 64, 3), mebibytes=1, snapshots=3)
TINY_SNAPS = snap_suite.Counts(
    find_mebibytes=4, take_mebibytes=4, snapshots=2, calls=20, restore_mebibytes=(16,), starts=1
)

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def _folder_of_the_benchmarks() -> None:
    stopwatch.module_folder()


def result(name: str, side: Side, *cpu: float) -> Result:
    return Result(name=name, side=side, note="", cpu=cpu, wall=tuple(2 * rate for rate in cpu))


# -- ratios and verdicts ---------------------------------------------------------------------


def test_a_ratio_is_taken_within_a_round() -> None:
    assert ratios((10.0, 30.0), (5.0, 10.0)) == (2.0, 3.0)


def test_rounds_that_do_not_pair_up_give_no_ratio() -> None:
    with pytest.raises(ValueError, match="zip"):
        ratios((1.0, 2.0), (1.0,))


@pytest.mark.parametrize(
    ("limit", "floor", "verdict"),
    [
        (None, None, ""),
        (2.0, None, "met"),
        (1.9, None, "MISSED"),
        (None, 2.0, "met"),
        (None, 2.1, "MISSED"),
    ],
)
def test_the_median_is_judged(limit: float | None, floor: float | None, verdict: str) -> None:
    figure = Figure(group="g", name="n", unit="x", values=(9, 2, 1), limit=limit, floor=floor)
    assert figure.verdict == verdict


def test_a_rate_is_the_amount_by_the_time() -> None:
    found = log_race.make_result("one", Side.OURS, "", 100, [Span(2, 4), Span(5, 10)])
    assert (found.cpu, found.wall) == ((50, 20), (25, 10))


def test_the_best_of_a_side_is_the_one_of_the_best_median() -> None:
    slow, fast = result("slow", Side.PEER, 1, 1, 99), result("fast", Side.PEER, 2, 2, 2)
    ours = result("ours", Side.OURS, 50, 50, 50)
    assert log_race.find_fastest([slow, ours, fast], Side.PEER, Clock.CPU) is fast
    assert log_race.find_fastest([ours], Side.PEER, Clock.CPU) is None


def test_only_the_clock_that_counts_is_judged() -> None:
    ours, peer = result("ours", Side.OURS, 3, 8), result("peer", Side.PEER, 2, 2)
    judged, shown = log_race.versus("g", ours, peer, Clock.CPU, floor=3.0)
    assert (judged.values, judged.verdict) == ((1.5, 4.0), "MISSED")
    assert (shown.values, shown.verdict) == ((1.5, 4.0), "")


def test_without_peers_there_are_no_ratios() -> None:
    assert not list(log_race.versus("g", result("ours", Side.OURS, 1), None, Clock.CPU, 1.0))


def test_a_race_turns_round_and_counts_no_first_round() -> None:
    order = []

    @contextmanager
    def opened(name: str) -> Iterator[Operation]:
        yield lambda: order.append(name)

    runners = [
        Runner(name=name, side=Side.PEER, amount=1, open=partial(opened, name))
        for name in ("a", "b")
    ]
    results = log_race.race(runners, 2)
    assert "".join(order) == "baabba"
    assert [len(one.cpu) for one in results] == [2, 2]


# -- appended events -------------------------------------------------------------------------


def test_the_payloads_are_those_that_the_fields_encode_to() -> None:
    fields, events = log_events.make_writes(3)
    for (fd, at, is_64bit, data), tag, payload in zip(
        fields, events.tags, events.payloads, strict=True
    ):
        event = FileDescriptorWrite(fd=fd, offset=at, is_64bit=is_64bit, data=data)
        assert decode(tag, payload) == event
        assert len(payload) == log_events.EVENT_SIZE


def test_stores_of_pairs_get_a_tag_only_where_there_are_several() -> None:
    mixed, alike = log_events.make_small_events(8), log_events.make_pages(8)
    assert next(iter(mixed.values(2, 3))) == b"\x03" + mixed.payloads[2]
    assert list(alike.values(2, 4)) == alike.payloads[2:4]


def test_every_reader_finds_all_of_one_tag(tmp_path: Path) -> None:
    events = log_events.make_small_events(300)
    wanted = [
        p for t, p in zip(events.tags, events.payloads, strict=True) if t == log_events.SELECTED_TAG
    ]
    for store in log_field.readers():
        path = tmp_path / store.name
        with store.append(path, events, store.ways[0]) as operation:
            operation()
        with store.select(path, log_events.SELECTED_TAG) as operation:
            kept = operation()
        assert isinstance(kept, list), store.name
        assert kept == wanted, store.name


# -- the parts -------------------------------------------------------------------------------


@pytest.mark.deep
@pytest.mark.parametrize("name", sorted(log_suite.parts(1, TINY)))
def test_a_part_measures_something(name: str) -> None:
    figures = list(log_suite.parts(1, TINY)[name]())
    assert any(figure.side is Side.OURS for figure in figures) or name == "log-limits"
    assert all(figure.values for figure in figures)
    assert "\n".join(lines(figures))
    ElementTree.fromstring(chart.render_svg(name, chart.group_bars(figures)))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.deep if "resume" in name else ())
        for name in sorted(snap_suite.parts(1, TINY_SNAPS))
        if name != "snap-resume-cpython"  # It instruments CPython, which takes minutes.
    ],
)
def test_a_part_of_snapshots_measures_something(name: str) -> None:
    if "resume" in name:
        program(name.removeprefix("snap-resume-"))
    figures = list(snap_suite.parts(1, TINY_SNAPS)[name]())
    assert any(figure.side is Side.OURS for figure in figures)
    assert any(figure.verdict for figure in figures)
    assert all(figure.values for figure in figures)
    assert "\n".join(lines(figures))
    ElementTree.fromstring(chart.render_svg(name, chart.group_bars(figures)))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.deep if name == "toolkit-online" else ())
        for name in sorted(toolkit_suite.parts(1, TINY_KIT))
    ],
)
def test_a_part_of_the_toolkit_measures_something(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_here(operation: str, *arguments: object) -> toolkit_operations.OperationResult:
        facts = toolkit_operations.OPERATIONS[operation](*map(str, arguments))()
        return toolkit_operations.OperationResult(Span(1.0, 1.0), 1.0, facts)

    if name != "toolkit-export":  # one starts processes as all do; that takes its time
        monkeypatch.setattr(toolkit_work, "run_operation", run_here)
        monkeypatch.setattr(toolkit_snapshots, "run_operation", run_here)
    figures = list(toolkit_suite.parts(1, TINY_KIT)[name]())
    assert any(figure.side is Side.OURS or figure.verdict for figure in figures)
    assert all(figure.values for figure in figures)
    assert "\n".join(lines(figures))
    ElementTree.fromstring(chart.render_svg(name, chart.group_bars(figures)))


@pytest.mark.parametrize("name", sorted(scaling_cases.CASES))
def test_a_case_of_the_scaling_benchmark_counts_its_calls(name: str) -> None:
    with scaling_cases.opened(scaling_cases.CASES[name]) as make_operation:
        costs = scaling_process.measure([make_operation(), make_operation()], 0.0001)
    assert costs["calls"] % scaling_cases.BATCH == 0
    assert costs["calls"] >= 0


def test_a_rewound_instance_is_as_it_was_before_the_call() -> None:
    with scaling_cases.opened(scaling_cases.CASES["writes 3 pages of 1 MiB: rewinding"]) as make:
        operation = make()
        rewinder = operation.__self__  # type: ignore[attr-defined]
        for _ in range(2):
            operation()
            assert bytes(rewinder._memory) == bytes(rewinder._image)


def test_the_table_of_the_scaling_benchmark_has_the_costs_of_a_call() -> None:
    run = scaling_runs.Run(
        calls=1000, seconds=0.5, user=0.001, system=0.002, faults=3000, shootdowns=500
    )
    runs = {setting: [run] for setting in scaling_runs.SETTINGS}
    table = scaling_runs.render_table([("returns 1: pooling", runs)])
    assert "### A guest that returns 1" in table
    assert "| pooling | 1 thread | 2.0 | 1.00 | 1.0 | 2.0 | 3.00 | 0.500 |" in table
    figures = list(scaling_runs.make_figures("returns 1: pooling", runs))
    assert [one.verdict for one in figures if one.verdict] == ["MISSED"]


@pytest.mark.deep
def test_the_parts_of_many_processes_measure_something() -> None:
    for figures in (
        jobs_verify.figures(1, 2),
        scaling_runs.figures("returns 1: pooling", 1, 0.01),
    ):
        assert any(figure.verdict for figure in figures)


def test_the_journal_of_a_service_plays_and_is_the_same_each_time(tmp_path: Path) -> None:
    size = toolkit_journal.Size(640, 64, 3)
    made = [toolkit_journal.make(tmp_path / name, size) for name in ("one", "two")]
    frames = []
    for name in ("one", "two"):
        with Reader(tmp_path / name) as reader:
            frames.append(list(reader.frames()))
            assert [info.resumable for info in list_snapshots(reader)] == [True] * 3
    assert frames[0] == frames[1]
    assert made[0] == made[1]
    assert made[0].events == len(frames[0])
    assert made[0].raw_size == sum(len(frame.payload) for frame in frames[0])
    play(frames[0], ModelHost())


def test_an_operation_that_fails_ends_the_program(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"operation hash .*missing.* failed"):
        toolkit_operations.run_operation("hash", tmp_path / "missing")


def test_pages_are_counted_once() -> None:
    found = toolkit_snapshots.DistinctPages(1)
    page = b"page".ljust(4096, b"\1")
    found.add([page, bytes(4096), page])
    found.add([page])
    assert found.count == 1
    assert 0 < found.end() < 4096


def test_a_suspended_guest_reports_for_how_long(tmp_path: Path) -> None:
    wasm = snap_guests.make_pausing_guest(1, 2)
    with snap_take._GuestRig(wasm, tmp_path) as rig:
        # The shortest of several commands is one that no other process delayed.
        assert min(rig._run_command("n")[1] for _ in range(9)) < rig._run_command("s")[1]
        rig.lap("r", 2)
        rig.lap("p", 2)
    with Reader(tmp_path / "journal") as reader:
        infos = list(list_snapshots(reader))
    # one when it begins, one that was asked for, and one for each lap
    assert len(infos) == 4
    assert all(info.has_stacks for info in infos)
    first, _, whole, partly = (info.size for info in infos)
    assert first > whole > partly > 0
    assert whole > 2 * 4096


def test_a_resume_that_prints_nothing_more_ends_the_program(tmp_path: Path) -> None:
    with record(
        micro.build_module("yield", 1), tmp_path / "journal", cache=stopwatch.module_folder()
    ) as recorder:
        assert recorder.wait() is not None
    with pytest.raises(SystemExit, match="printed no further line"):
        snap_resume._resume(tmp_path / "journal", 0, ())


def test_a_peer_that_is_not_installed_is_omitted_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    (sentence,) = (one for one in log_field.list_absent() if one.startswith("lmdb"))
    assert "its rows are omitted" in sentence
    assert "lmdb" not in {one.name for one in log_field.appenders()}
    assert "journal" in {one.name for one in log_field.appenders()}


def test_the_results_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, drawn = tmp_path / "kept.json", tmp_path / "drawn.svg"
    arguments = ["--quick", "--rounds", "1", "--only", "log-limits"]
    monkeypatch.setattr(
        sys, "argv", ["run.py", *arguments, "--json", str(kept), "--chart", str(drawn)]
    )
    monkeypatch.setattr(log_suite, "QUICK", TINY)
    suite.main()
    found = json.loads(kept.read_text())
    assert {"memcpy"} <= {figure["name"] for figure in found["figures"]}
    assert ElementTree.fromstring(drawn.read_text()).tag == f"{SVG}svg"


# -- the chart -------------------------------------------------------------------------------


def draw_bars(*bars: Bar) -> ElementTree.Element:
    group = Group(title="work <of> a kind", unit="M/s", bars=bars)
    return ElementTree.fromstring(chart.render_svg("Title & all", [group]))


def test_a_bar_is_as_long_as_its_value_says() -> None:
    root = draw_bars(Bar("ours", 4, Side.OURS), Bar("peer", 1, Side.PEER))
    ours, peer = (float(bar.get("width", "")) for bar in root.iter(f"{SVG}rect"))
    assert ours == pytest.approx(4 * peer, rel=0.01)


def test_values_far_apart_stand_on_a_logarithmic_scale_that_is_named() -> None:
    shares, logarithmic = chart.scale_lengths([1000.0, 10.0])
    assert logarithmic
    assert shares == [1.0, pytest.approx(1 / 3)]
    words = [
        one.text or "" for one in draw_bars(Bar("a", 1e3, Side.OURS), Bar("b", 1, Side.PEER)).iter()
    ]
    assert any("logarithmic" in word for word in words)


def test_no_bar_vanishes() -> None:
    root = draw_bars(Bar("a", 1e9, Side.OURS), Bar("b", 1, Side.PEER))
    assert all(float(bar.get("width", "")) >= 1 for bar in root.iter(f"{SVG}rect"))


def test_ours_can_be_told_from_the_others() -> None:
    root = draw_bars(Bar("a", 2, Side.PEER), Bar("b", 1, Side.OURS))
    assert [bar.get("class") for bar in root.iter(f"{SVG}rect")] == ["peer", "ours"]


def test_a_chart_has_no_bars_of_ratios_and_the_longest_first() -> None:
    figures = [
        Figure(group="g", name="ratio", unit="x", values=(3,)),
        Figure(group="g", name="short", unit="s", values=(1,), side=Side.PEER),
        Figure(group="g", name="long", unit="s", values=(2,), side=Side.OURS),
    ]
    (group,) = chart.group_bars(figures)
    assert [bar.label for bar in group.bars] == ["long", "short"]


@pytest.mark.deep
def test_bytes_through_pipes_and_sockets_are_measured() -> None:
    figures = list(byte_streams.figures(1, 50))
    assert len(figures) == 3 * len(byte_streams.CASES)
    assert all(figure.median > 0 for figure in figures)
