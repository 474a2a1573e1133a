"""Secret environment variables: the guest has them, and the journal does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import journal
from journal.engine import SecretValue, SnapshotOptions, check_resume
from journal.errors import NotResumable, OptionError
from journal.events.core import ProcessExit
from journal.events.memory import MemoryPages
from journal.events.process import ProcessStart
from journal.export import Secret, export_lines
from journal.snapshots import Trigger
from journal.snapshots.resume_flags import SECRET_ENVIRONMENT, list_secret_names
from tests.support.guest_runs import wait_for_end
from tests.support.rewrites import alter_event, events_of, frames_of, keep_first, rewrite
from tests.support.wat import module

VALUE = "correct horse battery staple"
ENVIRONMENT: dict[str, str | SecretValue] = {
    "BEFORE": "b",
    "TOKEN": SecretValue(VALUE),
    "AFTER": "a",
}
# The guest reads its environment to address 256, reads the clock, and exits with a byte of TOKEN.
GUEST = r"""
(module
  (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (call $environ (i32.const 16) (i32.const 256)))
    (drop (call $clock (i32.const 0) (i64.const 1) (i32.const 8)))
    (call $exit (i32.load8_u (i32.const 271)))))
"""
POSITION = 271 - 256 - len("BEFORE=b\0TOKEN=")
CODE = ord(VALUE[POSITION])


def record(path: Path, cache: Path, **options: Any) -> Path:
    with journal.record(module(GUEST), path, env=ENVIRONMENT, cache=cache, **options) as recorder:
        assert wait_for_end(recorder).code == CODE
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Path:
    return record(tmp_path_factory.mktemp("secrets") / "run.journal", cache_dir)


@pytest.fixture
def cut(path: Path, tmp_path: Path) -> Path:
    """Return the journal without its end."""
    (end,) = [
        index for index, event in enumerate(events_of(path)) if isinstance(event, ProcessExit)
    ]
    return rewrite(path, tmp_path / "cut.journal", keep_first(end))


def start_of(path: Path) -> ProcessStart:
    start = events_of(path)[0]
    assert isinstance(start, ProcessStart)
    return start


def test_the_guest_gets_a_value_that_no_event_has(path: Path) -> None:
    frames = frames_of(path)
    assert len(frames) > 3
    for frame in frames:
        assert VALUE.encode() not in frame.payload
        assert VALUE[:8].encode() not in frame.payload
    assert VALUE.encode() not in path.read_bytes()
    assert start_of(path).environment == (b"BEFORE=b", b"TOKEN", b"AFTER=a")
    assert list_secret_names(start_of(path)) == ["TOKEN"]


def test_two_journals_of_one_secret_have_different_hashes(
    path: Path, tmp_path: Path, cache_dir: Path
) -> None:
    other = record(tmp_path / "other.journal", cache_dir)
    hashes = {dict(start_of(each).configuration)[SECRET_ENVIRONMENT] for each in (path, other)}
    assert len(hashes) == 2


def test_what_the_guest_copied_is_in_its_snapshots(tmp_path: Path, cache_dir: Path) -> None:
    """The documentation warns of this."""
    snapshots = SnapshotOptions(on=frozenset({Trigger.NON_DETERMINISTIC_CALL}))
    path = record(tmp_path / "run.journal", cache_dir, snapshots=snapshots)
    holders = {frame.tag for frame in frames_of(path) if VALUE.encode() in frame.payload}
    assert holders == {MemoryPages.tag}
    assert journal.verify_replay(path, secrets={"TOKEN": VALUE}, cache=cache_dir).matches


def test_a_resume_continues_with_the_value(cut: Path, cache_dir: Path) -> None:
    with journal.resume(cut, secrets={"TOKEN": SecretValue(VALUE)}, cache=cache_dir) as recorder:
        assert wait_for_end(recorder).code == CODE
    assert VALUE.encode() not in cut.read_bytes()
    assert start_of(cut).environment[1] == b"TOKEN"


def test_a_resume_of_a_program_that_has_ended_needs_no_value(path: Path, cache_dir: Path) -> None:
    with journal.resume(path, cache=cache_dir) as recorder:
        assert wait_for_end(recorder).code == CODE


def do_resume(path: Path, secrets: dict[str, str], cache: Path) -> None:
    with journal.resume(path, secrets=secrets, cache=cache) as recorder:
        wait_for_end(recorder)


def do_verify(path: Path, secrets: dict[str, str], cache: Path) -> None:
    journal.verify_replay(path, secrets=secrets, cache=cache)


REFUSED = [
    ({}, NotResumable, "set TOKEN again"),
    ({"TOKEN": VALUE + "!"}, NotResumable, "TOKEN has another value than in the recorded run"),
    ({"TOKEN": ""}, NotResumable, "TOKEN has another value"),
    ({"TOKEN": VALUE, "AFTER": "a"}, OptionError, "no secret variable AFTER"),
    ({"TOKEN": "a\0b"}, OptionError, "must be a text without a NUL"),
]


@pytest.mark.parametrize("do", [do_resume, do_verify])
@pytest.mark.parametrize(("secrets", "error", "reason"), REFUSED)
def test_a_value_that_is_missing_or_different_is_refused_before_anything_is_written(
    do: Callable[[Path, dict[str, str], Path], None],
    secrets: dict[str, str],
    error: type[Exception],
    reason: str,
    cut: Path,
    cache_dir: Path,
) -> None:
    before = frames_of(cut)
    with pytest.raises(error, match=reason) as caught:
        do(cut, secrets, cache_dir)
    assert VALUE not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert frames_of(cut) == before


def test_a_check_of_a_resume_reports_a_missing_value(cut: Path) -> None:
    assert "set TOKEN again" in check_resume(cut).obstacle
    assert check_resume(cut, secrets={"TOKEN": VALUE}).is_exact


@pytest.mark.parametrize(
    "text",
    [
        "scrypt-30-8-1 00 00",
        "scrypt-15-8-1 00",
        "scrypt-15-8-1 xx yy",
        "none",
        "scrypt-15-8-1 00 00",
    ],
)
def test_a_forged_hash_is_refused(text: str, cut: Path, tmp_path: Path, cache_dir: Path) -> None:
    """A journal does not choose how much a resume computes."""
    start = start_of(cut)
    pairs = [
        (name, text if name == SECRET_ENVIRONMENT else old) for name, old in start.configuration
    ]
    changed = journal.encode(alter_event(start, configuration=tuple(pairs)))
    forged = rewrite(
        cut, tmp_path / "forged", lambda frames: [frames[0]._replace(payload=changed), *frames[1:]]
    )
    with pytest.raises(NotResumable, match="secret variable"):
        do_resume(forged, {"TOKEN": VALUE}, cache_dir)


def test_a_redacted_export_has_the_name_and_no_hash(path: Path, tmp_path: Path) -> None:
    digest = dict(start_of(path).configuration)[SECRET_ENVIRONMENT].split()[-1].encode()
    lines = []
    for redact in ((), (Secret.ENVIRONMENT,)):
        with (tmp_path / "lines").open("wb") as out:
            export_lines(path, out, redact=redact)
        lines.append((tmp_path / "lines").read_bytes())
    assert digest in lines[0]
    assert digest not in lines[1]
    assert b"TOKEN" in lines[1]


def test_a_secret_value_shows_itself_only_when_asked() -> None:
    secret = SecretValue(VALUE)
    assert VALUE not in f"{secret} {secret!r} {[secret]}"
    assert secret.reveal() == VALUE


@pytest.mark.parametrize("value", ["a\0b", "\ud800", b"bytes", None])
def test_a_value_that_no_variable_can_have_is_refused_without_showing_it(value: Any) -> None:
    with pytest.raises(OptionError) as caught:
        SecretValue(value)
    assert repr(value) not in str(caught.value)
