"""Segment files of a journal: one file, or the numbered files of a directory."""

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from journal._platform import HAS_DIRECTORY_DESCRIPTORS, NO_FOLLOW, OPEN_FLAGS
from journal.errors import FormatError, NotAJournal, OptionError, WrongKey
from journal.format import segment_header
from journal.format.segment_header import SEGMENT_HEADER_SIZE, SegmentHeader
from journal.fs import file_kind
from journal.fs.byte_source import ByteSource
from journal.log.seal_keys import KeyedSource, choose_reading_keys

if TYPE_CHECKING:
    from journal.format.seal_key import SealKey

_SUFFIX = ".journal"
_DIGITS = 10
SEGMENT_INDEX_MAX = 10**_DIGITS - 1

_NO_FILE = (errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.ENOTDIR)
"""Errors of ``open`` for links, sockets and other special files."""
_CLOSED = -1
_PATH_ONLY = -2  # An open directory on a system without descriptors of directories.


def segment_name(index: int) -> str:
    """Return the name of the segment file with this index."""
    return f"{index:0{_DIGITS}d}{_SUFFIX}"


def segment_index(name: str) -> int | None:
    """Return the index in a segment file's name; None for any other name."""
    digits = name.removesuffix(_SUFFIX)
    is_index = len(digits) == _DIGITS and digits.isascii() and digits.isdecimal()
    return int(digits) if is_index and name != digits else None


def list_segments(directory: int | str | os.PathLike[str]) -> list[str]:
    """Return the names of the segment files of a directory, a path or a descriptor, in order."""
    if isinstance(directory, int):
        # All copies of a descriptor share one position, also those in other processes.
        own = os.open(".", OPEN_FLAGS, dir_fd=directory)
        try:
            return _list_names(own)
        finally:
            os.close(own)
    return _list_names(directory)


def _list_names(directory: int | str | os.PathLike[str]) -> list[str]:
    with os.scandir(directory) as entries:
        return sorted(entry.name for entry in entries if segment_index(entry.name) is not None)


def journal_size(path: Path) -> int:
    """Return the size in bytes of the journal's file or of all its segment files."""
    files = [path / name for name in list_segments(path)] if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def count_shared_files(path: Path) -> int:
    """Return how many segment files of a directory have another name too, as those of a fork."""
    if not path.is_dir():
        return 0
    return sum((path / name).stat().st_nlink > 1 for name in list_segments(path))


def check_only_segments(path: Path) -> None:
    """Raise OptionError for a directory with other files, which a replacement would remove."""
    if not path.is_dir():
        return
    own_names = {*list_segments(path), *_list_unpublished(path)}
    others = sorted(entry.name for entry in path.iterdir() if entry.name not in own_names)
    if others:
        raise OptionError(f"{path} contains {others[0]!r}, which is not a segment: move it away")


def copy_ownership(path: Path, like: os.stat_result) -> None:
    """Set the owner and mode of a journal to those of the file with status ``like``."""
    for file in (path, *path.iterdir()) if path.is_dir() else (path,):
        status = file.stat()
        if (status.st_uid, status.st_gid) != (like.st_uid, like.st_gid):
            os.chown(file, like.st_uid, like.st_gid)
    path.chmod(stat.S_IMODE(like.st_mode))


def is_same_file(path: Path, status: os.stat_result) -> bool:
    """Return whether ``path`` leads to the file or directory with this status."""
    try:
        return os.path.samestat(status, path.stat())
    except OSError:
        return False


def _list_unpublished(path: Path) -> list[str]:
    """Return the names of segment files that a crash left without a final name."""
    return [entry.name for entry in path.glob(".*.tmp") if entry.is_file()]


def remove_journal(path: Path) -> None:
    """Remove a journal file, or a directory of segments, as far as possible."""
    with suppress(OSError):
        if path.is_dir():
            for name in (*list_segments(path), *_list_unpublished(path)):
                (path / name).unlink()
            path.rmdir()
        else:
            path.unlink()


class OwnedSource(KeyedSource):
    """A source that closes its file when it is garbage-collected."""

    __slots__ = ()

    def __del__(self) -> None:
        os.close(self._descriptor)


class RepairedSource(OwnedSource):
    """A source with some bits inverted. ``flips`` maps offsets to bit masks."""

    __slots__ = ("_flips",)

    def __init__(self, source: OwnedSource, flips: Mapping[int, int]) -> None:
        super().__init__(
            os.dup(source._descriptor), len(source), source.name, source.keys, zero_unreadable=True
        )
        self._flips = flips

    def _read(self, start: int, size: int) -> bytes:
        data = bytearray(super()._read(start, size))
        for position, bits in self._flips.items():
            if start <= position < start + len(data):
                data[position - start] ^= bits
        return bytes(data)


class SegmentHead(NamedTuple):
    """A segment file of a directory, with its first header, or None if that header is invalid."""

    name: str
    header: SegmentHeader | None


class SegmentFiles:
    """The open file or directory of a journal.

    ``flips`` maps file names to the bits to invert. ``key`` opens a sealed journal, and refuses any
    other. Raises NotAJournal for other kinds of files. Sources remain valid after ``close``.
    """

    __slots__ = (
        "_descriptor",
        "_flips",
        "_key",
        "_keys",
        "_patient",
        "_status",
        "is_directory",
        "path",
    )

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        patient: bool = False,
        flips: Mapping[str, Mapping[int, int]] | None = None,
        key: "SealKey | None" = None,
    ) -> None:
        self._descriptor = _CLOSED
        self._key = key
        self._keys = choose_reading_keys(key)
        self.path = Path(path)
        self._flips = flips or {}
        self._patient = patient
        if not HAS_DIRECTORY_DESCRIPTORS and self.path.is_dir():
            self._descriptor, self._status = _PATH_ONLY, self.path.stat()
        else:
            self._descriptor, self._status = file_kind.open_source(
                path, NotAJournal, directory=True
            )
        self.is_directory = stat.S_ISDIR(self._status.st_mode)

    def __del__(self) -> None:
        self.close()  # A file object closes itself in the same way.

    def close(self) -> None:
        """Close the descriptor."""
        descriptor, self._descriptor = self._descriptor, _CLOSED
        if descriptor >= 0:
            os.close(descriptor)

    @property
    def is_open(self) -> bool:
        """Return whether ``close`` was not called yet."""
        return self._descriptor != _CLOSED

    @property
    def is_moved(self) -> bool:
        """Return whether the path no longer leads to this journal."""
        self._check_open()
        try:
            status = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False
        return not os.path.samestat(status, self._status)

    def reopen(self) -> "SegmentFiles":
        """Open the journal at the same path again, with the same options."""
        return SegmentFiles(self.path, patient=self._patient, flips=self._flips, key=self._key)

    @property
    def size(self) -> int:
        """Current size of all files in bytes."""
        return sum(map(len, self.sources(self.names())))

    def names(self) -> list[str]:
        """Return the names of the segment files. A single-file journal has one empty name."""
        self._check_open()
        if not self.is_directory:
            return [""]
        return list_segments(self.path if self._descriptor == _PATH_ONLY else self._descriptor)

    def sources(self, names: list[str]) -> Iterator[ByteSource]:
        """Open the named files one after the other, at their current size."""
        for name in names:
            source = self.open(name)
            if source is not None:
                yield source

    def open(self, name: str) -> ByteSource | None:
        """Open one file.

        Returns None if the file no longer exists, and an empty source for a special file.
        """
        self._check_open()
        if not self.is_directory:
            descriptor = os.dup(self._descriptor)
        else:
            try:
                descriptor = self._open_segment(name)
            except FileNotFoundError:
                return None
            except OSError as error:
                unreadable = error.errno == errno.EIO and self._patient
                if error.errno not in _NO_FILE and not unreadable:
                    raise
                return KeyedSource(-1, 0, name, self._keys)
        status = os.fstat(descriptor)
        size = status.st_size if stat.S_ISREG(status.st_mode) else 0
        source = OwnedSource(descriptor, size, name, self._keys, zero_unreadable=self._patient)
        return RepairedSource(source, self._flips[name]) if name in self._flips else source

    def _open_segment(self, name: str) -> int:
        """Open a segment file of the directory. Raises OSError for a symbolic link."""
        if self._descriptor != _PATH_ONLY:
            return os.open(name, OPEN_FLAGS | NO_FOLLOW, dir_fd=self._descriptor)
        if (self.path / name).is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
        return os.open(self.path / name, OPEN_FLAGS)

    def read_heads(self, names: list[str]) -> list[SegmentHead]:
        """Read the first header of each named file."""
        heads = []
        for source in self.sources(names):
            try:
                header = segment_header.read(source[0:SEGMENT_HEADER_SIZE], 0)
            except FormatError:
                heads.append(SegmentHead(source.name, None))
            else:
                heads.append(SegmentHead(source.name, header))
        return heads

    @property
    def is_sealed(self) -> bool:
        """Return whether the first segment of the journal is sealed."""
        header = self.read_first_header()
        return header is not None and header.is_sealed

    @property
    def has_keys(self) -> bool:
        """Return whether there is a key to try on a sealed journal."""
        return bool(self._keys.keys)

    def check_key(self) -> None:
        """Raise WrongKey unless the keys fit the first segment; do nothing if it is damaged."""
        for source in islice(self.sources(self.names()), 1):
            with suppress(FormatError):
                header = segment_header.read(source[0:SEGMENT_HEADER_SIZE], 0)
                if self._keys.is_required and not header.is_sealed:
                    raise WrongKey(f"{self.path} is not sealed: read it without a key")
                if self._keys.keys and header.is_sealed:
                    from journal.format.segment_seal import load_seal  # Slow to import.

                    load_seal(source, 0, header, self._keys.keys)

    def read_first_header(self) -> SegmentHeader | None:
        """Read the first header of the journal; None if it is invalid."""
        heads = self.read_heads(self.names()[:1])
        return heads[0].header if heads else None

    def _check_open(self) -> None:
        if self._descriptor == _CLOSED:
            raise OptionError(f"the reader of {self.path} is closed")
