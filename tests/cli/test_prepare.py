"""The prepare command and its library function: what a following run finds in the cache."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import journal
from journal.engine import Configuration, SnapshotOptions, prepare_module
from journal.engine.program import binaryen, user_cache, variant
from journal.engine.program import module as guest_modules
from journal.errors import ModuleRefused, OptionError
from tests.support.command_line import run_inside
from tests.support.guest_runs import wait_for_end
from tests.support.programs import guest
from tests.support.rewrites import events_of

SNAPSHOTS = ("--snapshot-events", "1000")


@pytest.fixture
def forbid_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], None]:
    """Give the test a cache of its own. Return a function that forbids to compile from now on."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def fail(*_: object) -> bytes:
        raise AssertionError("a module is compiled or instrumented")

    def forbid() -> None:
        monkeypatch.setattr(guest_modules, "_compile", fail)
        monkeypatch.setattr(binaryen, "run_asyncify", fail)

    return forbid


@pytest.mark.parametrize(
    ("variant", "limits", "snapshots"),
    [
        ((), (), ()),
        ((), (), SNAPSHOTS),
        (("--no-snapshots",), (), ()),
        (("--safe-points", "loops"), (), SNAPSHOTS),
        (("--stacks", "never"), (), SNAPSHOTS),
        ((), ("--stack", "1MiB"), SNAPSHOTS),
        ((), ("--max-memory", "17MiB"), SNAPSHOTS),
    ],
    ids=["default", "snapshots", "plain", "loops", "no-stacks", "stack", "small-memory"],
)
def test_a_run_and_a_resume_after_a_preparation_compile_nothing(
    variant: tuple[str, ...],
    limits: tuple[str, ...],
    snapshots: tuple[str, ...],
    forbid_work: Callable[[], None],
    tmp_path: Path,
) -> None:
    done = run_inside("prepare", *variant, *limits, guest("exit7"), at=tmp_path)
    assert done.returncode == 0, done.stderr
    forbid_work()
    options = (*variant, *snapshots)
    done = run_inside("run", "-j", "j", *limits, *options, guest("exit7"), at=tmp_path)
    assert done.returncode == 7, done.stderr
    journal.cut(tmp_path / "j", tmp_path / "cut", at=len(events_of(tmp_path / "j")) - 2)
    done = run_inside("resume", *options, "cut", at=tmp_path)
    assert done.returncode == 7, done.stderr


def test_another_variant_is_not_prepared(forbid_work: Callable[[], None], tmp_path: Path) -> None:
    assert run_inside("prepare", "--no-snapshots", guest("exit7"), at=tmp_path).returncode == 0
    forbid_work()
    with pytest.raises(AssertionError, match="compiled or instrumented"):
        run_inside("run", *SNAPSHOTS, guest("exit7"), at=tmp_path)


def test_the_report_says_what_was_done_and_what_the_cache_had(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    modules = (guest("exit7"), guest("cat"))
    for is_first in (True, False):
        done = run_inside("prepare", "--json", *modules, at=tmp_path)
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert report["cache"] == str(tmp_path / "cache" / "wasm-journal" / "modules")
        assert [one["module"] for one in report["modules"]] == [str(path) for path in modules]
        for path, one in zip(modules, report["modules"], strict=True):
            assert one["size"] == path.stat().st_size
            plain, stacks = one["prepared"]
            assert (plain["snapshots"], stacks["snapshots"]) == (False, True)
            assert (plain["tool"], bool(stacks["tool"])) == ("", True)
            assert stacks["instrumented_size"] > one["size"]
            for part in (plain, stacks):
                assert part["code_size"] == Path(part["code"]).stat().st_size
                assert bool(part["compile_seconds"]) is is_first
            assert bool(stacks["instrument_seconds"]) is is_first
    table = run_inside("prepare", guest("cat"), at=tmp_path).stdout.decode()
    assert "without         compiled earlier, " in table
    assert "with snapshots  instrumented earlier by " in table
    assert run_inside("prepare", "-q", guest("cat"), at=tmp_path).stdout == b""


def test_what_cannot_be_prepared_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    done = run_inside("prepare", guest("exit7"), at=tmp_path)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.endswith(b"must be writable for this user only\n")
    done = run_inside("prepare", "no.wasm", at=tmp_path)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"cannot read module no.wasm" in done.stderr


def test_the_default_cache_keeps_instrumented_modules(
    monkeypatch: pytest.MonkeyPatch, forbid_work: Callable[[], None], tmp_path: Path
) -> None:
    for room in (user_cache, variant):
        monkeypatch.setattr(room, "get_default_cache", lambda: tmp_path / "home" / "modules")
    options = SnapshotOptions(every_events=1000)
    with journal.record(guest("exit7"), tmp_path / "a", snapshots=options) as recorder:
        wait_for_end(recorder)
    forbid_work()
    with journal.record(guest("exit7"), tmp_path / "b", snapshots=options) as recorder:
        wait_for_end(recorder)


def test_a_preparation_checks_its_arguments(tmp_path: Path) -> None:
    with pytest.raises(ModuleRefused, match="is empty"):
        prepare_module(b"", cache=tmp_path)
    for name in ("snapshots", "configuration", "note", "progress"):
        wrong: dict[str, Any] = {name: "wrong"}
        with pytest.raises(OptionError, match=name):
            prepare_module(guest("exit7"), cache=tmp_path, **wrong)
    result = prepare_module(
        guest("exit7").read_bytes(), configuration=Configuration(), cache=tmp_path / "cache"
    )
    assert (result.module, result.tool, result.instrument_seconds) == ("", "", 0.0)
    assert result.compile_seconds > 0
