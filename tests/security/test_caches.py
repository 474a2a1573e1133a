"""A journal neither chooses nor misuses what the cache holds for another journal."""

from __future__ import annotations

import os
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import wasmtime
import xxhash

import journal
from journal.engine import SnapshotOptions, Stacks
from journal.engine.program.user_cache import UserCache
from journal.events.memory import MemoryPages
from journal.fs import user_key
from journal.fs.user_key import load_key
from journal.pages.encoding import hash_page
from journal.snapshots import SnapshotInfo, Trigger
from tests.support.guest_runs import wait_for_end
from tests.support.snapshot_runs import snapshots_in
from tests.support.wat import module

PAGE = 17
GUEST = r"""
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 0) "\00\10\01\00\00\10\00\00")  ;; 4096 bytes into page 17
  (func (export "_start")
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)))
    (drop (call $clock (i32.const 0) (i64.const 1) (i32.const 24)))
    (drop (call $clock (i32.const 0) (i64.const 1) (i32.const 24)))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))
"""
# The first 72 bytes of the constant of xxh3, which is public.
XXH3_CONSTANT = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578"
    "825ad07dccff7221b8084674f743248ee03590e6813a264c3c2852bb91c300cb"
)
LANE = 3


def colliding_pages() -> tuple[bytes, bytes]:
    """Return two pages with one hash: xxh3 adds products up, and two changes cancel out."""

    def low(stripe: int) -> int:
        at = stripe * 8 + LANE * 8
        value = int.from_bytes(XXH3_CONSTANT[at : at + 8], "little")
        return (value + PAGE if at % 16 == 0 else value - PAGE) & 0xFFFFFFFF

    base, found = random.Random(1).randbytes(4096), []
    for move in (0, 0x0BADF00D):
        page = bytearray(base)
        for stripe, high in ((2, 0x11111111 + move), (5, 0x22222222 - move)):
            struct.pack_into("<Q", page, stripe * 64 + LANE * 8, high << 32 | low(stripe))
        found.append(bytes(page))
    return found[0], found[1]


ONE, OTHER = colliding_pages()
ANOTHER = ONE[:100] + b"tampered" + ONE[108:]


class Recorded:
    """A journal whose snapshots hold ``ONE``, in the input and in page 17."""

    def __init__(self, folder: Path) -> None:
        self.cache, self.path = folder / "cache" / "modules", folder / "run.journal"
        with journal.record(
            module(GUEST),
            self.path,
            stdin=ONE,
            cache=self.cache,
            snapshots=SnapshotOptions(
                on=frozenset({Trigger.NON_DETERMINISTIC_CALL}), stacks=Stacks.ALWAYS
            ),
        ) as recorder:
            wait_for_end(recorder)

    @property
    def snapshot(self) -> SnapshotInfo:
        return list(snapshots_in(self.path))[-1]

    def exchange(self, page: bytes, name: str = "tampered.journal") -> Path:
        """Return a copy with the same id and digests, and another page in its snapshots."""
        target, times, count = self.path.with_name(name), [0], 0
        with (
            journal.Reader(self.path) as reader,
            journal.Writer(target, journal_id=reader.journal_id, clock=lambda: times[0]) as writer,
        ):
            for frame in reader.frames():
                times[0], payload = frame.time, frame.payload
                if frame.tag == MemoryPages.tag and ONE in payload:
                    payload, count = payload.replace(ONE, page), count + 1
                writer.append_frame(frame.tag, payload)
        assert count
        return target

    def cut(self, path: Path) -> Path:
        """Return a copy of ``path`` that ends after its last snapshot."""
        return copy_upto(path, self.snapshot.seq)


def copy_upto(path: Path, seq: int) -> Path:
    target, times = path.with_suffix(".cut"), [0]
    with (
        journal.Reader(path) as reader,
        journal.Writer(target, journal_id=reader.journal_id, clock=lambda: times[0]) as writer,
    ):
        for frame in reader.frames(stop=seq + 1):
            times[0] = frame.time
            writer.append_frame(frame.tag, frame.payload)
    return target


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return Recorded(tmp_path_factory.mktemp("caches"))


@pytest.fixture
def recorded(shared: Recorded, tmp_path: Path) -> Recorded:
    """Return a recording of its own, whose cache has no image."""
    shutil.copytree(shared.path.parent, tmp_path, dirs_exist_ok=True)
    copy = Recorded.__new__(Recorded)
    copy.cache, copy.path = tmp_path / "cache" / "modules", tmp_path / "run.journal"
    return copy


def resume_output(path: Path, cache: Path) -> tuple[bytes, list[str]]:
    notes: list[str] = []
    with journal.resume(path, cache=cache, stdin=ONE, note=notes.append) as recorder:
        wait_for_end(recorder)
        return recorder.stdout, notes


# -- images ----------------------------------------------------------------------------------------


def test_the_two_pages_have_one_hash() -> None:
    assert ONE != OTHER
    assert hash_page(0, PAGE, ONE) == hash_page(0, PAGE, OTHER)


@pytest.mark.parametrize("page", [OTHER, ANOTHER], ids=["with the same hash", "with another hash"])
@pytest.mark.parametrize("each", [False, True], ids=["from the start", "from each snapshot"])
def test_a_verification_notices_an_exchanged_page(
    page: bytes, each: bool, recorded: Recorded
) -> None:
    """Images of the original are in the cache."""
    for path, is_right in ((recorded.path, True), (recorded.exchange(page), False)):
        result = journal.verify_replay(path, from_each_snapshot=each, cache=recorded.cache)
        assert result.matches is is_right
        # Without stacks nothing would be compared, or restored from an image.
        assert {check.matches for check in result.checks} <= {is_right, True}
        assert len(result.checks) > 1


def test_a_verification_from_a_snapshot_uses_no_image_of_another_copy(recorded: Recorded) -> None:
    last = recorded.snapshot.seq
    assert journal.verify_replay(recorded.path, start=last, cache=recorded.cache).matches
    tampered = recorded.exchange(ANOTHER)
    with pytest.raises(journal.NotResumable, match="the digest of snapshot"):
        journal.verify_replay(tampered, start=last, cache=recorded.cache)


def test_a_resume_uses_no_image_of_another_copy(recorded: Recorded) -> None:
    original, tampered = recorded.cut(recorded.path), recorded.cut(recorded.exchange(ANOTHER))
    assert resume_output(original, recorded.cache) == (ONE, [])
    printed, notes = resume_output(tampered, recorded.cache)
    assert printed == ONE, "the guest was executed again"
    assert "the digest of snapshot" in notes[0]


def test_a_tampered_copy_plants_no_image_for_the_original(recorded: Recorded) -> None:
    """The digests of both copies are those of their states, so only the bytes differ."""
    original, tampered = recorded.cut(recorded.path), recorded.cut(recorded.exchange(OTHER))
    assert resume_output(tampered, recorded.cache) == (OTHER, [])
    assert resume_output(original, recorded.cache) == (ONE, [])


def test_an_image_with_a_page_of_the_same_hash_is_not_used(recorded: Recorded) -> None:
    """A forged image needs the key for its mark, and an old image has none."""
    original = recorded.cut(recorded.path)
    copies = [original.with_suffix(f".{number}") for number in range(2)]
    for copy in copies:
        shutil.copy(original, copy)
    assert resume_output(copies[0], recorded.cache) == (ONE, [])
    (image,) = (recorded.cache.parent / "images").glob("*.image")
    before = image.stat()
    image.write_bytes(image.read_bytes().replace(ONE, OTHER))
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert resume_output(copies[1], recorded.cache) == (ONE, [])
    assert OTHER not in image.read_bytes()


# -- modules ---------------------------------------------------------------------------------------


def with_another_key(path: Path, data: bytes, cache: Path) -> Path:
    """Name a file as a user with another key would."""
    other = UserCache(cache, load_key(cache / "other.key"))
    name, _, rest = path.name.partition("-")
    mac = other.key.compute_mac("file", b"cwasm", b"identity", data)
    return path.with_name(f"{name}-{mac.hex()}{Path(rest).suffix}")


def with_an_unkeyed_hash(path: Path, data: bytes, cache: Path) -> Path:
    """Name a file as earlier versions did."""
    name = path.name.partition("-")[0]
    return path.with_name(f"{name}-{xxhash.xxh3_128_hexdigest(data)}.cwasm")


def with_its_old_name(path: Path, data: bytes, cache: Path) -> Path:
    return path


@pytest.mark.parametrize("name", [with_another_key, with_an_unkeyed_hash, with_its_old_name])
def test_planted_code_is_never_deserialized(
    name: Callable[[Path, bytes, Path], Path],
    recorded: Recorded,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded: list[bytes] = []
    deserialize = wasmtime.Module.deserialize_file

    def load(engine: wasmtime.Engine, path: str) -> wasmtime.Module:
        loaded.append(Path(path).read_bytes())
        return deserialize(engine, path)

    monkeypatch.setattr(wasmtime.Module, "deserialize_file", load)
    codes = {path.read_bytes(): path for path in recorded.cache.glob("*.cwasm")}
    for code, path in codes.items():
        planted = code + b"planted"
        path.unlink()
        name(path, planted, recorded.cache).write_bytes(planted)
    assert journal.verify_replay(recorded.path, cache=recorded.cache).matches
    assert loaded == []
    assert journal.verify_replay(recorded.path, cache=recorded.cache).matches
    assert loaded, "what was compiled instead is authentic"
    assert set(loaded) <= set(codes)


@pytest.mark.parametrize("kind", ["form", "facts", "wasm"])
def test_a_file_of_another_user_or_another_module_is_not_read(kind: str, tmp_path: Path) -> None:
    mine = UserCache.open(tmp_path / "mine" / "modules")
    other = UserCache.open(tmp_path / "other" / "modules")
    for cache in (mine, other):
        cache.write(kind, b"one", b"of %s" % cache.key.secret)
    found = mine.read(kind, b"one")
    assert found is not None
    assert found.data == b"of " + mine.key.secret
    path = mine.folder / f"{mine.make_name(kind, b'one')}.{kind}"
    shutil.copy(other.folder / f"{other.make_name(kind, b'one')}.{kind}", path)
    assert mine.read(kind, b"one") is None
    mine.write(kind, b"one", b"of one")
    shutil.copy(path, mine.folder / f"{mine.make_name(kind, b'two')}.{kind}")
    assert mine.read(kind, b"two") is None
    path.write_bytes(path.read_bytes() + b"!")
    assert mine.read(kind, b"one") is None


def test_nothing_is_read_from_a_cache_that_others_can_write(tmp_path: Path) -> None:
    cache = UserCache.open(tmp_path / "modules")
    cache.write("form", b"one", b"data")
    cache.write_mapped("cwasm", b"one", b"code")
    assert cache.read("form", b"one") is not None
    assert [path.read_bytes() for path in cache.find_mapped("cwasm", b"one")] == [b"code"]
    cache.folder.chmod(0o777)
    assert cache.read("form", b"one") is None
    assert list(cache.find_mapped("cwasm", b"one")) == []


# -- the key ---------------------------------------------------------------------------------------


def test_a_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / user_key.NAME
    key = load_key(path)
    assert len(key.secret) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_key(path) == key
    assert [entry.name for entry in path.parent.iterdir()] == [user_key.NAME]


def test_all_paths_of_a_cache_have_the_same_key(tmp_path: Path) -> None:
    cache = UserCache.open(tmp_path / "caches" / "modules")
    (tmp_path / "link").symlink_to(cache.folder)
    assert UserCache.open(tmp_path / "link") == cache


@pytest.mark.parametrize("spoil", ["readable", "short", "link"])
def test_a_key_that_others_may_know_is_replaced(spoil: str, tmp_path: Path) -> None:
    path = tmp_path / user_key.NAME
    key = load_key(path)
    if spoil == "readable":
        path.chmod(0o644)
    elif spoil == "short":
        path.write_bytes(b"short")
    else:
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    fresh = load_key(path)
    assert fresh != key
    assert load_key(path) == fresh
    assert not path.is_symlink()


def test_where_no_key_can_be_stored_each_process_has_its_own(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    path = tmp_path / "file" / user_key.NAME
    assert load_key(path) != load_key(path)


def test_parts_of_a_code_cannot_be_moved(tmp_path: Path) -> None:
    key = load_key(tmp_path / user_key.NAME)
    codes = [key.compute_mac(*parts) for parts in (("p", b"ab", b"c"), ("p", b"a", b"bc"))]
    assert len({*codes, key.compute_mac("q", b"ab", b"c")}) == 3
