"""Events of applications, and tags of this project with other payloads, in every operation."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

import journal
from journal import MalformedEvent, OpaqueEvent, Query, Reader, Verifier, Writer
from journal.events import APPLICATION_TAGS, BY_TAG, core
from journal.export import Secret, export_lines
from journal.export.parquet import export_parquet, import_parquet
from tests.support.application_events import check_operations, frames_of
from tests.support.programs import guest
from tests.support.sample_events import process_start

FRAMES = st.lists(
    st.tuples(st.sampled_from(sorted(APPLICATION_TAGS)), st.binary(max_size=40)), max_size=30
)


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory() as name:
        yield Path(name)


def write(path: Path, frames: list[tuple[int, bytes]]) -> Path:
    """Write a journal with these frames."""
    with Writer(path) as writer:
        for tag, payload in frames:
            writer.append_frame(tag, payload)
    return path


# -- reserved tags --------------------------------------------------------------------------------


def test_no_kind_of_this_project_has_an_application_tag() -> None:
    assert sorted(APPLICATION_TAGS) == list(range(224, 255))
    assert APPLICATION_TAGS.isdisjoint(BY_TAG)


@given(frames=FRAMES)
def test_a_reader_returns_them_as_bytes(frames: list[tuple[int, bytes]]) -> None:
    with TemporaryDirectory() as name:
        path = write(Path(name) / "a.journal", frames)
        with Reader(path) as reader:
            events = list(reader)
            assert events == [OpaqueEvent(tag=tag, payload=payload) for tag, payload in frames]
            assert list(reader.verify()) == []
        copy = Path(name) / "b.journal"
        with Writer(copy) as writer:
            for event in events:
                writer.append(event)
        assert frames_of(copy) == frames


@given(frames=FRAMES, is_process=st.booleans())
def test_no_operation_fails_or_loses_them(
    frames: list[tuple[int, bytes]], is_process: bool
) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "a.journal"
        with Writer(path) as writer:
            if is_process:
                writer.append(process_start())
            for tag, payload in frames:
                writer.append_frame(tag, payload)
            writer.append(core.ProcessExit(exit_code=0))
        whole = frames_of(path)
        check_operations(path, whole)


def test_a_table_holds_them(folder: Path) -> None:
    pytest.importorskip("pyarrow")
    frames = [(224, b"one"), (254, b"\xff"), (230, b"")]
    path = write(folder / "a.journal", frames)
    with (folder / "a.parquet").open("wb") as file:
        export_parquet(path, file)
    import_parquet(folder / "a.parquet", folder / "b.journal")
    assert frames_of(folder / "b.journal") == frames


def test_a_filter_selects_them_by_group_and_tag(folder: Path) -> None:
    frames = [(224, b"one"), (1, b"\0\0\0\0"), (230, b"two")]
    path = write(folder / "a.journal", frames)
    for number, (where, kept) in enumerate(
        [('group == "application"', [0, 2]), ("tag == 230", [2]), ("size == 3", [0, 2])]
    ):
        made = folder / f"{number}.journal"
        journal.filter(path, made, Query(where=where), keep_preamble=False)
        assert frames_of(made) == [frames[index] for index in kept]


def test_a_filter_that_drops_them_leaves_a_journal_resumable(folder: Path) -> None:
    path = folder / "a.journal"
    with Writer(path) as writer:
        writer.append(process_start())
        writer.append_frame(240, b"note")
        writer.append(core.ProcessExit(exit_code=0))
    result = journal.filter(path, None, Query(where='group == "application"'), keep=False)
    assert result.dropped == {240: 1}
    assert result.resumable, result.reason


def test_a_redacted_export_hides_them(folder: Path) -> None:
    path = write(folder / "a.journal", [(224, b"secret")])
    out = io.BytesIO()
    export_lines(path, out, redact=[Secret.MEMORY])
    row = json.loads(out.getvalue().splitlines()[1])
    assert row["kind"] is None
    assert "text" not in row["payload"]


# -- a resume --------------------------------------------------------------------------------------


def test_a_resume_skips_them(folder: Path) -> None:
    path = folder / "shop.journal"
    with journal.record(guest("prompt"), path, args=["prompt"]) as run:
        run.feed(b"set bread rye\n")
        while b"2>" not in run.stdout:
            run.wait(timeout_seconds=0.01)
    with Writer(path) as writer:
        writer.append_frame(224, b"a note between two sessions")
    with journal.resume(path) as run:
        run.feed(b"get bread\n")
        run.close_stdin()
        end = run.wait()
        assert end is not None
        assert end.code == 0
        assert b"rye" in run.stdout
    assert (224, b"a note between two sessions") in frames_of(path)
    assert not list(Verifier(path).run())
    journal.verify_replay(path)


# -- tags of this project with other payloads -----------------------------------------------------


ANY_FRAMES = st.lists(st.tuples(st.integers(1, 254), st.binary(max_size=20)), min_size=1)


@given(frames=ANY_FRAMES)
def test_a_log_without_a_process_may_use_any_tag(frames: list[tuple[int, bytes]]) -> None:
    with TemporaryDirectory() as name:
        path = write(Path(name) / "a.journal", [(8, b"first"), *frames])
        with Reader(path) as reader:
            assert [event.tag for event in reader] == [8, *(tag for tag, _ in frames)]
            assert list(reader.verify()) == []
        assert list(Verifier(path).run()) == []


@pytest.mark.parametrize("tag", [1, 7, 128])
def test_a_first_payload_that_starts_no_process_is_no_damage(tag: int, folder: Path) -> None:
    path = write(folder / "a.journal", [(tag, b"x"), (7, b"y")])
    assert list(Verifier(path).run()) == []
    with Reader(path) as reader:
        assert next(iter(reader)) == OpaqueEvent(tag=tag, payload=b"x")


@pytest.mark.parametrize("note", [[], [(224, b"note")]])
def test_in_a_process_a_payload_that_fits_no_kind_is_an_error(
    note: list[tuple[int, bytes]], folder: Path
) -> None:
    path = folder / "a.journal"
    with Writer(path) as writer:
        for tag, payload in note:
            writer.append_frame(tag, payload)
        writer.append(process_start())
        writer.append_frame(7, b"x")
    (finding,) = Verifier(path).run()
    assert isinstance(finding.error, MalformedEvent)  # type: ignore[union-attr]
    with Reader(path) as reader, pytest.raises(MalformedEvent, match="UpdateMemoryRegion"):
        list(reader)


def test_a_query_takes_a_payload_of_an_application_for_no_match(folder: Path) -> None:
    path = write(folder / "a.journal", [(6, b"x"), (224, b"y")])
    journal.filter(path, folder / "kept.journal", Query(where="fd == 1"))
    assert frames_of(folder / "kept.journal") == []
    journal.filter(path, folder / "left.journal", Query(where="fd == 1"), keep=False)
    assert frames_of(folder / "left.journal") == [(6, b"x"), (224, b"y")]
