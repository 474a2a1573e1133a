"""The index command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import journal
from journal.compaction import compact
from journal.engine import SnapshotOptions
from journal.pages.index_store import PageIndexStore, Watermark, get_index_path
from journal.pages.page_index import PageIndex
from journal.pages.user_key import UserKey, load_key
from tests.support.command_line import build_environment, run_inside, run_tool
from tests.support.page_histories import STORY, History, events, named_in, pages_in, write


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> UserKey:
    """Return the user key of the tools that the tests run, in and outside of this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", build_environment()["XDG_CACHE_HOME"])
    return load_key(Path(build_environment()["XDG_CACHE_HOME"]) / "wasm-journal" / "pages.key")


def indexed(path: Path, key: UserKey, history: History = STORY) -> list[int]:
    with PageIndex(path, key=key) as index:
        return write(path, events(history), index)


def told(path: Path, *arguments: str, code: int = 0) -> dict[str, Any]:
    done = run_inside("index", "--json", *arguments, path.name, at=path.parent)
    assert done.returncode == code, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def test_an_index_is_told_and_checked(tmp_path: Path, key: UserKey) -> None:
    path = tmp_path / "a"
    indexed(path, key)
    found, last = told(path), pages_in(path)[-1][0].seq
    whole, named = found["whole"], named_in(path)
    assert found == {
        "journal": "a", "index": "a.pages", "fits": True, "entries": whole, "last_seq": last,
        "size": get_index_path(path).stat().st_size, "pages": found["pages"], "whole": whole,
        "named": named, "share": named / (named + whole),
    }  # fmt: skip
    checked = told(path, "--check")
    assert (checked["entries"], checked["wrong"], checked["missing"]) == (whole, 0, 0)
    text = run_inside("index", "a", at=tmp_path).stdout.decode()
    assert f"{whole} stored whole, {named} referenced" in text
    assert b"each entry matches its page" in run_inside("index", "--check", "a", at=tmp_path).stdout
    assert run_inside("index", "--quiet", "a", at=tmp_path).stdout == b""


def test_an_index_is_removed_and_made_anew(tmp_path: Path, key: UserKey) -> None:
    path = tmp_path / "a"
    indexed(path, key)
    before = told(path)
    dropped = told(path, "--drop")
    assert not get_index_path(path).exists()
    assert (dropped["index"], dropped["fits"], dropped["entries"]) == (None, False, 0)
    assert b"index    none" in run_inside("index", "a", at=tmp_path).stdout
    assert told(path, "--check")["index"] is None, "what is not there is not wrong"
    assert told(path, "--rebuild") == before
    assert told(path, "--check")["wrong"] == 0
    assert told(path, "--drop")["index"] is None
    assert told(path, "--drop")["index"] is None, "it is gone already"


def test_an_index_of_another_journal_is_not_believed(tmp_path: Path, key: UserKey) -> None:
    path = tmp_path / "a"
    indexed(path, key)
    compact(path, tmp_path / "b")
    (tmp_path / "b").replace(path)
    assert told(path)["fits"] is False
    assert told(path, "--check", code=3)["fits"] is False
    text = run_inside("index", "a", at=tmp_path).stdout.decode()
    assert "it does not match the journal" in text
    assert told(path, "--rebuild")["fits"] is True
    told(path, "--check")


def test_entries_that_lead_elsewhere_are_found(tmp_path: Path, key: UserKey) -> None:
    path = tmp_path / "a"
    write(path, events(STORY))
    with journal.Reader(path) as reader, PageIndexStore(tmp_path) as entries:
        seq = pages_in(path)[-1][0].seq
        entries.put(1, seq, 0)
        entries.put(2, 0, 9)
        assert entries.save(get_index_path(path), key, Watermark.from_reader(reader, seq))
    found = told(path, "--check", code=3)
    assert (found["entries"], found["wrong"]) == (2, 2)
    assert found["missing"] > 0
    assert (
        "2 entries do not match their page"
        in run_inside("index", "--check", "a", at=tmp_path).stdout.decode()
    )


def test_what_is_no_journal_or_damaged_is_refused(tmp_path: Path, key: UserKey) -> None:
    (tmp_path / "a").write_bytes(b"no journal at all" * 999)
    assert run_inside("index", "a", at=tmp_path).returncode == 1
    path = tmp_path / "b"
    indexed(path, key)
    get_index_path(path).unlink()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert run_inside("index", "--rebuild", "b", at=tmp_path).returncode in (3, 6)
    assert not get_index_path(path).exists()


def test_a_run_leaves_an_index_that_a_resume_goes_on_with(tmp_path: Path) -> None:
    guest = Path(__file__).parents[2] / "fixtures" / "guests" / "bulk.wasm"
    wanted = ["-q", "--page-index", "--snapshot-events", "4"]
    first = ["run", *wanted, "--stop-after-snapshot", "-j", "a", str(guest), "40"]
    assert run_tool(*first, at=tmp_path).returncode == 0
    assert told(tmp_path / "a")["fits"] is True
    assert run_tool("resume", *wanted, "a", at=tmp_path).returncode == 0
    found = told(tmp_path / "a", "--check")
    assert (found["wrong"], found["missing"]) == (0, 0)
    assert named_in(tmp_path / "a") > 0
    again = ["run", *wanted, "--force", "-j", "a", str(guest), "20"]
    assert run_tool(*again, at=tmp_path).returncode == 0
    assert told(tmp_path / "a", "--check")["fits"] is True
    names = {one.name for one in tmp_path.iterdir()}
    assert names == {"a", "a.pages"}


def test_runs_keep_no_index_unless_it_is_asked_for(tmp_path: Path) -> None:
    help_text = run_inside("run", "--help", at=tmp_path).stdout.decode()
    assert "no-page-index" in help_text
    assert SnapshotOptions().page_index is False


def test_what_is_inspected_says_which_pages_are_named(tmp_path: Path, key: UserKey) -> None:
    path = tmp_path / "a"
    indexed(path, key)
    text = run_inside("inspect", "--group", "memory", "a", at=tmp_path).stdout.decode()
    assert " same" in text
    done = run_inside("inspect", "--json", "--group", "memory", "a", at=tmp_path)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    runs = [run for one in lines for run in one["fields"].get("runs", ())]
    assert {"whole", "same"} <= {run[2] for run in runs}
