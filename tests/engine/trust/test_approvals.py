"""Approvals are believed only if this user wrote them, and storing them leaves nothing open."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from journal.engine import AccessRequest, Approvals, HostMount
from journal.engine.trust import approvals as storing
from journal.fs import user_key

ID, OTHER_ID = bytes(range(16)), bytes(16)
MODULE = bytes(32)
REQUEST = AccessRequest(ID, MODULE, (HostMount("/home/ann/data", "/data"),), "/opt/tool.wasm")


def requests_in(store: Approvals, journal_id: bytes | None = ID) -> list[AccessRequest]:
    return [approval.request for approval in store.find(journal_id)]


def files_in(store: Approvals) -> list[Path]:
    return sorted(path for path in store.directory.iterdir() if path.name != "key")


@pytest.fixture
def store(tmp_path: Path) -> Approvals:
    """Approvals with one request."""
    found = Approvals(tmp_path / "state" / "approvals")
    found.add(REQUEST)
    return found


def test_an_approval_is_found_by_its_journal_until_it_is_revoked(store: Approvals) -> None:
    other = AccessRequest(OTHER_ID, MODULE, (HostMount("/a b\n", "/\udcff", True),))
    store.add(other)
    store.add(REQUEST)
    assert requests_in(store) == [REQUEST]
    assert requests_in(store, OTHER_ID) == [other]
    assert {each.journal_id for each in requests_in(store, None)} == {ID, OTHER_ID}
    assert (store.revoke(ID), store.revoke(ID)) == (1, 0)
    assert requests_in(store, None) == [other]


def test_a_directory_that_does_not_exist_has_no_approvals(tmp_path: Path) -> None:
    store = Approvals(tmp_path / "nowhere")
    assert (store.find(), store.revoke(ID)) == ([], 0)
    assert not store.directory.exists()


def test_only_the_user_can_read_approvals(store: Approvals) -> None:
    assert store.directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in store.directory.iterdir()} == {0o600}


def test_a_changed_approval_is_not_believed(store: Approvals) -> None:
    (path,) = files_in(store)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert requests_in(store) == [], f"byte {at}"
        path.write_bytes(whole[:at])
        assert requests_in(store) == [], f"cut at {at}"
    path.write_bytes(whole)
    assert requests_in(store) == [REQUEST]


def test_a_renamed_approval_is_none_of_another_journal(store: Approvals) -> None:
    (path,) = files_in(store)
    path.rename(path.with_name(path.name.replace(ID.hex(), OTHER_ID.hex())))
    assert requests_in(store, OTHER_ID) == []


def test_an_approval_of_another_user_is_not_believed(store: Approvals, tmp_path: Path) -> None:
    other = Approvals(tmp_path / "other")
    other.add(AccessRequest(OTHER_ID, MODULE))
    (path,), (foreign,) = files_in(store), files_in(other)
    foreign.write_bytes(path.read_bytes())
    foreign.rename(foreign.with_name(path.name))
    assert requests_in(other) == []


@pytest.mark.parametrize("mode", [0o644, 0o660])
def test_approvals_count_nothing_if_others_can_read_the_key(mode: int, store: Approvals) -> None:
    key = store.directory / "key"
    old = key.read_bytes()
    key.chmod(mode)
    assert requests_in(store) == []
    store.add(REQUEST)
    assert requests_in(store) == [REQUEST]
    assert key.read_bytes() != old, "a key that others could read is replaced"


def test_a_special_file_or_a_link_is_no_approval(store: Approvals, tmp_path: Path) -> None:
    (path,) = files_in(store)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert requests_in(store) == []
    path.unlink()
    os.mkfifo(path)
    assert requests_in(store) == []
    path.unlink()
    path.write_bytes(b"x" * (storing.APPROVAL_SIZE_MAX + 9))
    assert requests_in(store) == []


def make_link(directory: Path) -> None:
    directory.rename(directory.with_name("target"))
    directory.symlink_to("target")


def make_file(directory: Path) -> None:
    directory.rename(directory.with_name("target"))
    directory.write_bytes(b"")


def open_to_others(directory: Path) -> None:
    directory.chmod(0o770)


@pytest.mark.parametrize("change", [make_link, make_file, open_to_others])
def test_nothing_is_stored_in_a_directory_that_is_not_private(
    change: object, store: Approvals
) -> None:
    assert callable(change)
    change(store.directory)
    assert requests_in(store) == []
    with pytest.raises(OSError, match=r"not a directory|used by other users|exists"):
        store.add(AccessRequest(OTHER_ID, MODULE))


def test_nothing_is_stored_in_the_directory_of_another_user(
    store: Approvals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: store.directory.stat().st_uid + 1)
    assert requests_in(store) == []
    with pytest.raises(PermissionError, match="belongs to another user"):
        store.add(REQUEST)


def test_the_oldest_approvals_make_room(store: Approvals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "APPROVALS_COUNT_MAX", 3)
    ids = [bytes([number]) * 16 for number in range(1, 6)]
    os.utime(files_in(store)[0], (1, 1))
    for number, journal_id in enumerate(ids):
        store.add(AccessRequest(journal_id, MODULE))
        (path,) = (each for each in files_in(store) if each.name.startswith(journal_id.hex()))
        os.utime(path, (2 + number, 2 + number))
    assert {each.journal_id for each in requests_in(store, None)} == set(ids[2:])


def test_an_approval_that_is_too_large_is_refused(store: Approvals) -> None:
    long = AccessRequest(ID, MODULE, (), "x" * storing.APPROVAL_SIZE_MAX)
    with pytest.raises(OSError, match="at most"):
        store.add(long)


def test_processes_that_create_the_key_at_once_get_the_same_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key"
    first = user_key.make_key(path)
    finds = iter([None])  # Another process stores its key after this one has looked.
    really_find = user_key.find_key
    monkeypatch.setattr(user_key, "find_key", lambda path: next(finds, really_find(path)))
    monkeypatch.setattr(os.path, "lexists", lambda path: False)
    assert user_key.make_key(path) == first
    assert [each.name for each in tmp_path.iterdir()] == ["key"]
