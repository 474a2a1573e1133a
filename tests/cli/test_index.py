"""The index command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import journal
from journal.compaction import compact
from journal.engine import SnapshotOptions
from journal.fs import user_key
from journal.fs.user_key import UserKey, load_key
from journal.pages.index_store import PageIndexStore, Watermark, get_index_path
from journal.pages.page_index import PageIndex
from tests.support.command_line import build_environment, run_inside, run_tool
from tests.support.page_histories import STORY, History, count_named_pages, events, pages_in, write


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> UserKey:
    """Return the user key of the tools that the tests run, in and outside of this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", build_environment()["XDG_CACHE_HOME"])
    return load_key(Path(build_environment()["XDG_CACHE_HOME"]) / "wasm-journal" / user_key.NAME)


def write_indexed(path: Path, key: UserKey, history: History = STORY) -> list[int]:
    with PageIndex(path, key=key) as index:
        return write(path, events(history), index)


def run_index(path: Path, *arguments: str, code: int = 0) -> dict[str, Any]:
    done = run_inside("index", "--json", *arguments, path.name, at=path.parent)
    assert done.returncode == code, done.stderr
    report = json.loads(done.stdout)
    assert isinstance(report, dict)
    return report


def test_an_index_is_described_and_checked(tmp_path: Path, key: UserKey) -> None:
    path = tmp_path / "a"
    write_indexed(path, key)
    report, last = run_index(path), pages_in(path)[-1][0].seq
    whole_count, reference_count = report["whole"], count_named_pages(path)
    assert report == {
        "journal": "a", "index": "a.pages", "fits": True, "entries": whole_count, "last_seq": last,
        "size": get_index_path(path).stat().st_size, "pages": report["pages"], "whole": whole_count,
        "named": reference_count, "share": reference_count / (reference_count + whole_count),
    }  # fmt: skip
    checked = run_index(path, "--check")
    assert (checked["entries"], checked["wrong"], checked["missing"]) == (whole_count, 0, 0)
    text = run_inside("index", "a", at=tmp_path).stdout.decode()
    assert f"{whole_count} stored whole, {reference_count} referenced" in text
    assert b"each entry matches its page" in run_inside("index", "--check", "a", at=tmp_path).stdout
    assert run_inside("index", "--quiet", "a", at=tmp_path).stdout == b""


def test_an_index_is_removed_and_rebuilt(tmp_path: Path, key: UserKey) -> None:
    path = tmp_path / "a"
    write_indexed(path, key)
    before = run_index(path)
    dropped = run_index(path, "--drop")
    assert not get_index_path(path).exists()
    assert (dropped["index"], dropped["fits"], dropped["entries"]) == (None, False, 0)
    assert b"index    none" in run_inside("index", "a", at=tmp_path).stdout
    assert run_index(path, "--check")["index"] is None, "a missing index is no error"
    assert run_index(path, "--rebuild") == before
    assert run_index(path, "--check")["wrong"] == 0
    assert run_index(path, "--drop")["index"] is None
    assert run_index(path, "--drop")["index"] is None, "the index has been removed already"


def test_an_index_of_another_journal_does_not_fit(tmp_path: Path, key: UserKey) -> None:
    path = tmp_path / "a"
    write_indexed(path, key)
    compact(path, tmp_path / "b")
    (tmp_path / "b").replace(path)
    assert run_index(path)["fits"] is False
    assert run_index(path, "--check", code=3)["fits"] is False
    text = run_inside("index", "a", at=tmp_path).stdout.decode()
    assert "it does not match the journal" in text
    assert run_index(path, "--rebuild")["fits"] is True
    run_index(path, "--check")


def test_wrong_entries_are_found(tmp_path: Path, key: UserKey) -> None:
    path = tmp_path / "a"
    write(path, events(STORY))
    with journal.Reader(path) as reader, PageIndexStore(tmp_path) as entries:
        seq = pages_in(path)[-1][0].seq
        entries.put(1, seq, 0)
        entries.put(2, 0, 9)
        assert entries.save(get_index_path(path), key, Watermark.from_reader(reader, seq))
    report = run_index(path, "--check", code=3)
    assert (report["entries"], report["wrong"]) == (2, 2)
    assert report["missing"] > 0
    assert (
        "2 entries do not match their page"
        in run_inside("index", "--check", "a", at=tmp_path).stdout.decode()
    )


def test_a_file_that_is_no_journal_or_is_damaged_is_refused(tmp_path: Path, key: UserKey) -> None:
    (tmp_path / "a").write_bytes(b"no journal at all" * 999)
    assert run_inside("index", "a", at=tmp_path).returncode == 1
    path = tmp_path / "b"
    write_indexed(path, key)
    get_index_path(path).unlink()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert run_inside("index", "--rebuild", "b", at=tmp_path).returncode in (3, 6)
    assert not get_index_path(path).exists()


def test_a_resume_uses_the_index_of_the_run(tmp_path: Path) -> None:
    guest = Path(__file__).parents[2] / "fixtures" / "guests" / "bulk.wasm"
    options = ["-q", "--page-index", "--snapshot-events", "4"]
    first = ["run", *options, "--stop-after-snapshot", "-j", "a", str(guest), "40"]
    assert run_tool(*first, at=tmp_path).returncode == 0
    assert run_index(tmp_path / "a")["fits"] is True
    assert run_tool("resume", *options, "a", at=tmp_path).returncode == 0
    report = run_index(tmp_path / "a", "--check")
    assert (report["wrong"], report["missing"]) == (0, 0)
    assert count_named_pages(tmp_path / "a") > 0
    rerun = ["run", *options, "--force", "-j", "a", str(guest), "20"]
    assert run_tool(*rerun, at=tmp_path).returncode == 0
    assert run_index(tmp_path / "a", "--check")["fits"] is True
    names = {one.name for one in tmp_path.iterdir()}
    assert names == {"a", "a.pages"}


def test_runs_keep_no_index_by_default(tmp_path: Path) -> None:
    help_text = run_inside("run", "--help", at=tmp_path).stdout.decode()
    assert "no-page-index" in help_text
    assert SnapshotOptions().page_index is False


def test_inspect_shows_references_to_pages(tmp_path: Path, key: UserKey) -> None:
    path = tmp_path / "a"
    write_indexed(path, key)
    text = run_inside("inspect", "--group", "memory", "a", at=tmp_path).stdout.decode()
    assert " same" in text
    done = run_inside("inspect", "--json", "--group", "memory", "a", at=tmp_path)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    runs = [run for one in lines for run in one["fields"].get("runs", ())]
    assert {"whole", "same"} <= {run[2] for run in runs}
