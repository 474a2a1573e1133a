"""Paused sessions: their bytes continue the guest, and other bytes are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import journal
from journal import GrantsMissing, JournalError, OptionError
from journal.engine import Ending, SnapshotOptions
from tests.support.programs import guest


@pytest.fixture(scope="module")
def paused(cache_dir: Path) -> bytes:
    with journal.session(guest("prompt"), args=["prompt"], cache=cache_dir) as session:
        session.run(b"set bread rye\n")
        return session.pause()


def test_a_paused_guest_continues_any_number_of_times(paused: bytes, cache_dir: Path) -> None:
    for _ in range(2):
        with journal.unpause(paused, cache=cache_dir) as session:
            assert session.run(b"get bread\n").stdout == b"rye\n3> "


def test_a_pause_closes_the_session_and_removes_its_temporary_journal(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with journal.session(guest("prompt"), cache=cache_dir) as session:
        session.run()
        session.pause()
        with pytest.raises(OptionError, match="closed"):
            session.pause()
    assert list(tmp_path.iterdir()) == []


def test_the_bytes_hold_the_last_state_and_not_its_history(cache_dir: Path) -> None:
    sizes = []
    for count in (1, 400):
        with journal.session(guest("prompt"), args=["prompt"], cache=cache_dir) as session:
            session.run(b"get %0200d\n" % 1 * count)
            sizes.append(len(session.pause()))
    assert sizes[1] < sizes[0] * 1.5


def test_a_session_without_snapshots_is_paused_by_its_events(cache_dir: Path) -> None:
    with journal.session(
        guest("prompt"), args=["prompt"], cache=cache_dir, snapshots=SnapshotOptions()
    ) as session:
        session.run(b"set bread rye\n")
        data = session.pause()
    with journal.unpause(data, cache=cache_dir) as session:
        assert session.run(b"get bread\n").stdout == b"rye\n3> "


def test_an_ended_guest_is_paused_with_its_end(cache_dir: Path) -> None:
    with journal.session(guest("prompt"), args=["prompt"], cache=cache_dir) as session:
        session.run(b"quit 3\n")
        data = session.pause()
    with journal.unpause(data, cache=cache_dir) as session:
        reply = session.run()
        assert (reply.ending, reply.exit_code, reply.stdout) == (Ending.EXITED, 3, b"")


def test_a_path_keeps_the_journal(paused: bytes, tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "a.journal"
    with journal.unpause(paused, path, cache=cache_dir) as session:
        session.run(b"set bread oat\n")
    with journal.resume_session(path, cache=cache_dir) as session:
        assert session.run(b"get bread\n").stdout == b"oat\n4> "
    with (
        pytest.raises(journal.JournalExists),
        journal.unpause(paused, path, cache=cache_dir),
    ):
        pass
    assert path.exists()


@pytest.mark.parametrize("damage", ["nothing", "noise", "zeros", "flip", "cut", "long cut"])
def test_other_bytes_are_refused_with_one_sentence_and_leave_nothing(
    damage: str, paused: bytes, tmp_path: Path, cache_dir: Path
) -> None:
    middle = len(paused) // 2
    data = {
        "nothing": b"",
        "noise": b"no journal",
        "zeros": bytes(len(paused)),
        "flip": paused[:middle] + bytes([paused[middle] ^ 1]) + paused[middle + 1 :],
        "cut": paused[:-1],
        "long cut": paused[:middle],
    }[damage]
    with (
        pytest.raises(JournalError) as caught,
        journal.unpause(data, tmp_path / "a.journal", cache=cache_dir),
    ):
        pass
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_bytes_grant_nothing(tmp_path: Path, cache_dir: Path) -> None:
    (tmp_path / "shared").mkdir()
    mounts: list[journal.HostMount | journal.MemoryMount] = [
        journal.MemoryMount("/"),
        journal.HostMount(str(tmp_path / "shared"), "/s"),
    ]
    approvals = tmp_path / "approvals"
    with journal.session(
        guest("prompt"), args=["prompt"], mounts=mounts, cache=cache_dir, approvals=approvals
    ) as session:
        session.run(b"set a 1\n")
        data = session.pause()
    with journal.unpause(data, cache=cache_dir, approvals=approvals) as session:
        assert session.run(b"get a\n").stdout == b"1\n3> "
    stranger = tmp_path / "stranger"
    with (
        pytest.raises(GrantsMissing),
        journal.unpause(data, cache=cache_dir, approvals=stranger),
    ):
        pass
