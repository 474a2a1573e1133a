"""Tests of memory images: they save time, and damaged images are not used."""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import journal
from journal.engine import SnapshotOptions
from journal.engine.program.user_cache import is_private
from journal.engine.snapshot import memory_image
from journal.snapshots import Trigger
from tests.support.damage import PROMPT, RecordedRun, record_snapshots, resume_damaged
from tests.support.guest_runs import wait_for_end
from tests.support.programs import guest
from tests.support.rewrites import keep_first, rewrite
from tests.support.snapshot_runs import snapshots_in

HEAD_SIZE = 4096


@dataclass(frozen=True, slots=True)
class Place:
    """A journal that ends after a snapshot, and its image directory."""

    taken: RecordedRun
    journal: Path
    cache: Path

    @property
    def folder(self) -> Path:
        return self.cache.parent / "images"

    @property
    def image(self) -> Path:
        """Return the only image."""
        (found,) = self.folder.glob("*.image")
        return found

    def resume(self) -> None:
        """Resume a copy from the snapshot, and check the end."""
        copy = self.journal.with_suffix(".copy")
        shutil.copy(self.journal, copy)
        result = resume_damaged(PROMPT, copy, self.cache)
        assert result.is_like(self.taken), result
        assert result.notes == [], "the snapshot was good, whatever there was of its image"
        copy.unlink()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> RecordedRun:
    """Return a journal, and a cache that contains only the compiled module."""
    folder = tmp_path_factory.mktemp("images")
    taken = record_snapshots(PROMPT, folder / "run.journal", folder / "cache" / "modules")
    assert taken.infos[3].pages > 1
    return taken


@pytest.fixture
def place(shared: RecordedRun, tmp_path: Path) -> Place:
    cache = tmp_path / "cache" / "modules"
    shutil.copytree(shared.path.parent / "cache", cache.parent)
    path = rewrite(shared.path, tmp_path / "cut.journal", keep_first(shared.infos[3].seq + 1))
    return Place(shared, path, cache)


# -- wrong images ----------------------------------------------------------------------------------


def last_page(path: Path) -> int:
    """Return the offset of the last page that is not zero."""
    data = path.read_bytes()
    return len(data.rstrip(b"\0")) // HEAD_SIZE * HEAD_SIZE


def overwrite(path: Path, at: int, data: bytes) -> None:
    """Change a file in place without changing its times."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def a_bit(path: Path) -> None:
    at = last_page(path) + 77
    overwrite(path, at, bytes([path.read_bytes()[at] ^ 4]))


def a_page_of_zeros(path: Path) -> None:
    overwrite(path, last_page(path), bytes(HEAD_SIZE))


def a_page_where_none_was(path: Path) -> None:
    size = path.stat().st_size
    assert last_page(path) < size - HEAD_SIZE
    overwrite(path, size - HEAD_SIZE, b"\1" * HEAD_SIZE)


def pages_swapped(path: Path) -> None:
    data, last = path.read_bytes(), last_page(path)
    one, other = data[HEAD_SIZE : 2 * HEAD_SIZE], data[last : last + HEAD_SIZE]
    assert one != other
    overwrite(path, HEAD_SIZE, other)
    overwrite(path, last, one)


def a_bit_of_the_head(path: Path) -> None:
    overwrite(path, 40, bytes([path.read_bytes()[40] ^ 1]))


def another_version(path: Path) -> None:
    overwrite(path, 15, b"\1")


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def cut_in_its_head(path: Path) -> None:
    os.truncate(path, 100)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def longer(path: Path) -> None:
    os.truncate(path, path.stat().st_size + HEAD_SIZE)


def noise(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(path.stat().st_size))


def writable_by_others(path: Path) -> None:
    a_bit(path)
    path.chmod(0o666)


def a_link(path: Path) -> None:
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere)
    a_bit(elsewhere)
    path.symlink_to(elsewhere)


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def no_mark(path: Path) -> None:
    a_bit(path)
    path.with_suffix(".checked").unlink()


def a_mark_that_anybody_could_make(path: Path) -> None:
    a_bit(path)
    mark, found = path.with_suffix(".checked"), path.stat()
    stamp = f"{found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}\n"
    mark.write_text(stamp)
    mark.chmod(0o622)


def a_mark_of_noise(path: Path) -> None:
    a_bit(path)
    path.with_suffix(".checked").write_bytes(b"\xff\xfe\0")


WRONG = [
    *(a_bit, a_page_of_zeros, a_page_where_none_was, pages_swapped, a_bit_of_the_head),
    *(
        another_version,
        cut_short,
        cut_in_its_head,
        emptied,
        longer,
        noise,
        writable_by_others,
        a_link,
    ),
    *(a_directory, a_pipe, no_mark, a_mark_that_anybody_could_make, a_mark_of_noise),
]


@pytest.mark.parametrize("spoil", WRONG, ids=lambda one: one.__name__)
def test_an_image_with_something_wrong_is_made_anew(
    spoil: Callable[[Path], None], place: Place
) -> None:
    place.resume()
    path, good = place.image, place.image.read_bytes()
    spoil(path)
    place.resume()
    if path.is_dir() or path.is_fifo():
        return  # Only files and links are replaced.
    assert path.is_file()
    assert not path.is_symlink()
    assert path.read_bytes() == good
    assert is_private(path)
    inode = path.stat().st_ino
    place.resume()
    assert path.stat().st_ino == inode, "what is good again is used"


def test_an_image_that_is_good_is_used_again(place: Place) -> None:
    place.resume()
    before = place.image.stat()
    place.resume()
    assert place.image.stat() == before


@pytest.mark.parametrize("same_journal", [True, False], ids=["a snapshot", "a journal"])
def test_an_image_of_another_one_under_this_name_is_not_believed(
    same_journal: bool, place: Place
) -> None:
    place.resume()
    path, good = place.image, place.image.read_bytes()
    path.rename(place.journal.with_name("mine"))
    for mark in place.folder.glob("*.checked"):
        mark.unlink()
    infos = place.taken.infos
    other = rewrite(
        place.taken.path,
        place.journal.with_name("other.journal"),
        keep_first(infos[2 if same_journal else 3].seq + 1),
    )
    if same_journal:
        shutil.copy(place.journal, other)
        journal.verify_replay(other, start=infos[2].seq, cache=place.cache)
    else:
        assert resume_damaged(PROMPT, other, place.cache).is_like(place.taken)
    (wrong,) = place.folder.glob("*.image")
    assert wrong.name != path.name
    wrong.rename(path)
    place.resume()
    assert path.read_bytes() == good


# -- images that cannot be stored ------------------------------------------------------------------


def a_file_in_its_place(place: Place) -> None:
    place.folder.write_bytes(b"no folder")


def a_dangling_link(place: Place) -> None:
    place.folder.symlink_to(place.folder / "nowhere" / "at all")


def names_that_are_taken(place: Place) -> None:
    place.resume()
    name = place.image.name
    place.image.unlink()
    (place.folder / name / "inner").mkdir(parents=True)


@pytest.mark.parametrize(
    "spoil", [a_file_in_its_place, a_dangling_link, names_that_are_taken], ids=lambda f: f.__name__
)
def test_where_nothing_can_be_kept_a_guest_is_resumed_all_the_same(
    spoil: Callable[[Place], None], place: Place
) -> None:
    spoil(place)
    place.resume()
    place.resume()
    assert not list(place.folder.glob(".*.tmp"))


def test_a_full_disk_keeps_no_image_and_no_rest_of_one(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, full = os.pwrite, threading.Event()

    def failing(descriptor: int, data: bytes, at: int) -> int:
        if place.folder in Path(f"/proc/self/fd/{descriptor}").readlink().parents:
            full.set()
            raise OSError(28, "No space left on device")
        return write(descriptor, data, at)

    monkeypatch.setattr(os, "pwrite", failing)
    place.resume()
    assert full.is_set()
    assert not list(place.folder.iterdir())


def test_a_folder_that_others_can_write_is_not_read(place: Place) -> None:
    place.resume()
    path, good = place.image, place.image.read_bytes()
    a_bit(path)
    place.folder.chmod(0o777)
    place.resume()
    assert path.read_bytes() == good


# -- pruning ---------------------------------------------------------------------------------------


def test_what_a_crash_has_left_of_images_goes_and_the_last_used_stay(place: Place) -> None:
    taken = record_snapshots(
        replace(PROMPT, every_events=1), place.journal.with_name("often.journal"), place.cache
    )
    for info in taken.infos[:12]:
        journal.verify_replay(taken.path, start=info.seq, cache=place.cache)
    kept = sorted(place.folder.glob("*.image"), key=lambda path: path.stat().st_mtime_ns)
    assert len(kept) == memory_image.IMAGES_COUNT_MAX
    old = time.time() - 2 * 3600
    for name, is_old in ((".a.image.0.tmp", True), (".b.image.1.tmp", False)):
        (place.folder / name).write_bytes(b"half an image")
        if is_old:
            os.utime(place.folder / name, (old, old))
    (place.folder / "gone.checked").write_bytes(b"of no image")
    for age, image in enumerate(kept[:3]):  # These were never marked because of a crash.
        image.with_suffix(".checked").unlink()
        os.utime(image, (old + age, old + age))
    journal.verify_replay(taken.path, start=taken.infos[0].seq, cache=place.cache)
    names = {path.name for path in place.folder.iterdir()}
    assert ".a.image.0.tmp" not in names
    assert ".b.image.1.tmp" in names, "somebody may be making it"
    assert "gone.checked" not in names
    assert len([name for name in names if name.endswith(".image")]) == memory_image.IMAGES_COUNT_MAX
    assert kept[0].name not in names


def test_a_guest_runs_on_when_its_image_is_removed(tmp_path: Path) -> None:
    cache = tmp_path / "cache" / "modules"
    with journal.record(
        guest("stdin"),
        tmp_path / "run.journal",
        cache=cache,
        snapshots=SnapshotOptions(on=frozenset({Trigger.FIRST_STDIN}), stop_after=True),
    ) as recorder:
        assert wait_for_end(recorder).kind is journal.engine.ExitKind.STOPPED
    with journal.resume(tmp_path / "run.journal", cache=cache) as recorder:
        recorder.feed(b"one\n")
        assert list((cache.parent / "images").glob("*.image"))
        shutil.rmtree(cache.parent / "images")
        recorder.feed(b"two\nthree\n")
        recorder.close_stdin()
        ended, printed = wait_for_end(recorder), recorder.stdout
    with journal.record(
        guest("stdin"), tmp_path / "plain.journal", cache=cache, stdin=b"one\ntwo\nthree\n"
    ) as recorder:
        assert (wait_for_end(recorder), recorder.stdout) == (ended, printed)


# -- several at once -------------------------------------------------------------------------------


@pytest.mark.deep
@pytest.mark.parametrize("spoils", [False, True], ids=["undisturbed", "while images are spoilt"])
def test_many_make_and_use_the_same_images_at_once(spoils: bool, place: Place) -> None:
    infos = place.taken.infos[2:6]
    over = threading.Event()

    def spoil() -> None:
        chance = random.Random(7)
        while not over.wait(0.003):
            for path in find_images(place.folder):
                chance.choice([remove, cut, remove_mark])(path)

    def check(number: int) -> bool:
        info = infos[number % len(infos)]
        found = journal.verify_replay(place.taken.path, start=info.seq, cache=place.cache)
        return found.matches and found.result == place.taken.outcome

    spoiler = threading.Thread(target=spoil)
    if spoils:
        spoiler.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(check, range(32)))
    finally:
        over.set()
        if spoils:
            spoiler.join()
    assert not list(place.folder.glob(".*.tmp"))


def find_images(folder: Path) -> Iterator[Path]:
    if folder.exists():
        yield from folder.glob("*.image")


def remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def cut(path: Path) -> None:
    """Replace an image by a truncated copy; the mapped file does not change."""
    try:
        short = path.with_name(f"short-{path.name}.part")
        short.write_bytes(path.read_bytes()[: 3 * HEAD_SIZE])
        short.rename(path)
    except OSError:
        return


def remove_mark(path: Path) -> None:
    path.with_suffix(".checked").unlink(missing_ok=True)


def test_a_copy_of_a_journal_that_went_another_way_has_images_of_its_own(place: Place) -> None:
    """Both journals have the same id, and a snapshot with the same sequence number."""
    copies = [place.journal.with_name(f"copy-{number}") for number in range(2)]
    first = place.taken.infos[0].seq + 1
    unread = rewrite(place.taken.path, place.journal.with_name("unread"), keep_first(first))
    printed = []
    for number, copy in enumerate(copies):
        shutil.copy(unread, copy)
        lines = PROMPT.stdin.replace(b"5", b"%d" % (6 + number))
        with journal.resume(
            copy, stdin=lines, cache=place.cache, snapshots=SnapshotOptions(every_events=3)
        ) as recorder:
            wait_for_end(recorder)
            printed.append(recorder.stdout)
    assert printed[0] != printed[1]
    seqs = [info.seq for info in snapshots_in(copies[0])]
    assert seqs == [info.seq for info in snapshots_in(copies[1])]
    for number, copy in enumerate(copies):
        into = copy.with_suffix(".new")
        found = journal.verify_replay(copy, start=seqs[-1], cache=place.cache)
        assert found.matches
        lines = PROMPT.stdin.replace(b"5", b"%d" % (6 + number))
        result = resume_damaged(PROMPT, copy, place.cache, at=seqs[-1], into=into, stdin=lines)
        assert result.stdout == printed[number]
