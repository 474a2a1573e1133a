"""Modules that import WASI preview 0, whose structures are translated."""

from __future__ import annotations

from pathlib import Path

import pytest

import journal
from journal import HostMount, MemoryMount
from journal.engine import SnapshotOptions
from tests.support.guest_runs import wait_for_end
from tests.support.programs import guest

OUTPUT = b"""\
write = 0
seek set 1 = 0, 1
seek current 2 = 0, 3
seek end -1 = 0, 4
filestat = 0, type 4, links 1, size 5, times set
filestat = 0, type 4, links 1, size 5, times set
after it = 77
poll of clocks = 0, 1: 11, type 0
poll of a file = 0, 1: 12, type 2
"""


@pytest.mark.parametrize("every_events", [None, 1], ids=["plain", "with snapshots"])
@pytest.mark.parametrize("kind", ["host", "memory"])
def test_a_guest_of_preview_0_runs_and_is_replayed(
    tmp_path: Path, cache_dir: Path, kind: str, every_events: int | None
) -> None:
    (tmp_path / "room").mkdir()
    room = HostMount(str(tmp_path / "room"), "/") if kind == "host" else MemoryMount("/")
    path = tmp_path / "j"
    with journal.record(
        guest("unstable"),
        path,
        mounts=[room],
        snapshots=SnapshotOptions(every_events=every_events),
        cache=cache_dir,
    ) as recorder:
        assert wait_for_end(recorder).code == 7
        output = recorder.stdout
        *lines, last = output.splitlines()
        *expected, expected_last = OUTPUT.splitlines()
        assert lines == expected
        # A snapshot in the call may take longer than the timeout of its clock.
        assert last == expected_last or (every_events and b": 11, type 0" in last)
    assert journal.verify_replay(path, cache=cache_dir).matches
    with journal.resume(path, cache=cache_dir) as again:
        assert wait_for_end(again).code == 7
        assert again.stdout == output


def test_preview_0_has_no_function_of_later_versions(tmp_path: Path, cache_dir: Path) -> None:
    later = b"""(module (import "wasi_unstable" "sock_accept"
        (func (param i32 i32 i32) (result i32))) (func (export "_start")))"""
    with pytest.raises(journal.ModuleRefused, match=r"wasi_unstable\.sock_accept"):
        journal.record(later, tmp_path / "j", cache=cache_dir)
