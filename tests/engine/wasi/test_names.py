"""Names that are not UTF-8: a guest gets and uses their bytes, but cannot create such names."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

import journal
from journal import HostMount
from journal.engine import FileCopy
from journal.operations import extract
from journal.wasi_abi import Errno
from tests.support import wat
from tests.support.guest_runs import wait_for_end
from tests.support.programs import guest

#: What ``names`` prints of the directory below. It removes the files.
LISTING = b"""\
636166e9 file 616263
676f6f64 file 64
6c696e6be8 link fd2f78
fffe directory \n"""


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A directory with names that are not UTF-8."""
    folder = tmp_path / "odd"
    named(folder, b"\xff\xfe/in").mkdir(parents=True)
    contents = {b"caf\xe9": b"abc", b"good": b"d", b"\xff\xfe/in/\x80": b"deep"}
    for name, content in contents.items():
        named(folder, name).write_bytes(content)
    named(folder, b"link\xe8").symlink_to(os.fsdecode(b"\xfd/x"))
    return folder


def named(folder: Path, name: bytes) -> Path:
    return folder / os.fsdecode(name)


def names_in(folder: Path) -> set[bytes]:
    return {os.fsencode(path.name) for path in folder.iterdir()}


def record_names(odd: Path, path: Path, cache: Path, kind: str) -> None:
    """Record the guest that lists and removes the files, in a copy or in the directory itself."""
    with journal.record(
        guest("names"),
        path,
        args=["names", "/odd"],
        copies=[FileCopy(str(odd), "/odd")] if kind == "copy" else [],
        mounts=[HostMount(str(odd), "/odd")] if kind == "mount" else None,
        cache=cache,
    ) as recorder:
        assert wait_for_end(recorder).code == 0
        assert recorder.stdout == LISTING


@pytest.mark.parametrize("kind", ["copy", "mount"])
def test_a_guest_lists_reads_renames_and_removes_them(
    tmp_path: Path, cache_dir: Path, odd: Path, kind: str
) -> None:
    path = tmp_path / "j"
    record_names(odd, path, cache_dir, kind)
    files = {b"caf\xe9", b"good"} if kind == "copy" else set()
    assert names_in(odd) == {b"link\xe8", b"\xff\xfe"} | files
    assert journal.verify_replay(path, cache=cache_dir).matches
    with journal.resume(path, cache=cache_dir) as again:
        assert wait_for_end(again).code == 0
        assert again.stdout == LISTING


def test_they_are_exported_imported_and_extracted(
    tmp_path: Path, cache_dir: Path, odd: Path
) -> None:
    path, target = tmp_path / "j", tmp_path / "target"
    record_names(odd, path, cache_dir, "copy")
    extract.extract_files(path, target)
    assert names_in(target / "odd") == {b"link\xe8", b"\xff\xfe"}
    link = named(target / "odd", b"link\xe8").readlink()
    assert os.fsencode(link) == b"\xfd/x"
    assert named(target / "odd", b"\xff\xfe/in/\x80").read_bytes() == b"deep"
    archive = io.BytesIO()
    extract.archive_files(path, archive)
    archive.seek(0)
    with tarfile.open(fileobj=archive) as members:
        names = {os.fsencode(name) for name in members.getnames()}
    assert {b"odd/link\xe8", b"odd/\xff\xfe/in/\x80"} <= names


@pytest.mark.parametrize("kind", ["memory", "host"])
@pytest.mark.parametrize(
    ("call", "errno"),
    [
        (wat.path_open(2, wat.CREATE), Errno.ILSEQ),
        (wat.path_open(2, 0), Errno.ILSEQ),
        (
            "(call $path_create_directory (i32.const 3) (i32.const 16) (i32.const 2))",
            Errno.ILSEQ,
        ),
        ("(call $path_unlink_file (i32.const 3) (i32.const 16) (i32.const 2))", Errno.ILSEQ),
    ],
)
def test_a_new_or_missing_name_must_be_utf8(
    tmp_path: Path, cache_dir: Path, kind: str, call: str, errno: Errno
) -> None:
    (tmp_path / "room").mkdir()
    mounts = [HostMount(str(tmp_path / "room"), "/")] if kind == "host" else None
    module = wat.program(f"(call $exit {call})", data="\\ff\\fe")
    with journal.record(module, tmp_path / "j", mounts=mounts, cache=cache_dir) as recorder:
        assert wait_for_end(recorder).code == errno
    assert not list((tmp_path / "room").iterdir())
    assert journal.verify_replay(tmp_path / "j", cache=cache_dir).matches
