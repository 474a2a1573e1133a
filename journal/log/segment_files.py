"""The files of a journal: one, or the numbered segment files of a directory."""

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from journal.errors import FormatError, NotAJournal, OptionError
from journal.format import segment_header as segment
from journal.format.segment_header import SEGMENT_HEADER_SIZE, SegmentHeader
from journal.fs.byte_source import ByteSource

_SUFFIX = ".journal"
_DIGITS = 10
SEGMENT_INDEX_MAX = 10**_DIGITS - 1

_NO_FILE = (errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.ENOTDIR)
"""What opening says of links, sockets and the like."""
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


def segment_name(index: int) -> str:
    """Name the segment file of that number."""
    return f"{index:0{_DIGITS}d}{_SUFFIX}"


def segment_index(name: str) -> int | None:
    """Give the number in a segment file's name; None for any other name."""
    digits = name.removesuffix(_SUFFIX)
    known = len(digits) == _DIGITS and digits.isascii() and digits.isdecimal()
    return int(digits) if known and name != digits else None


def list_segments(directory: int | str | os.PathLike[str]) -> list[str]:
    """List the segment files of a directory, in order."""
    with os.scandir(directory) as entries:
        return sorted(entry.name for entry in entries if segment_index(entry.name) is not None)


def journal_size(path: Path) -> int:
    """Bytes of the file, or of the segment files, that a journal is."""
    files = [path / name for name in list_segments(path)] if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def check_only_segments(path: Path) -> None:
    """Refuse a directory that has something else than segments, which would be gone with it."""
    if not path.is_dir():
        return
    known = {*list_segments(path), *_list_unpublished(path)}
    others = sorted(entry.name for entry in path.iterdir() if entry.name not in known)
    if others:
        raise OptionError(f"{path} has {others[0]!r} in it, which is no segment: move it away")


def copy_ownership(path: Path, like: os.stat_result) -> None:
    """Give a journal the owner and the mode of another."""
    for file in (path, *path.iterdir()) if path.is_dir() else (path,):
        found = file.stat()
        if (found.st_uid, found.st_gid) != (like.st_uid, like.st_gid):
            os.chown(file, like.st_uid, like.st_gid)
    path.chmod(stat.S_IMODE(like.st_mode))


def is_same_file(path: Path, known: os.stat_result) -> bool:
    """Whether a path is known to lead to the file or directory of which this is known."""
    try:
        return os.path.samestat(known, path.stat())
    except OSError:
        return False


def _list_unpublished(path: Path) -> list[str]:
    """The segments in a directory that a crash left without a name."""
    return [entry.name for entry in path.glob(".*.tmp") if entry.is_file()]


def remove_journal(path: Path) -> None:
    """Take away a journal, a file or a directory of segments, as far as that goes."""
    with suppress(OSError):
        if path.is_dir():
            for name in (*list_segments(path), *_list_unpublished(path)):
                (path / name).unlink()
            path.rmdir()
        else:
            path.unlink()


class OwnedSource(ByteSource):
    """A source that closes its file when nobody reads it any more."""

    __slots__ = ()

    def __del__(self) -> None:
        os.close(self._descriptor)


class RepairedSource(OwnedSource):
    """A source some of whose bytes are read otherwise: ``flips`` says which bits of which."""

    __slots__ = ("_flips",)

    def __init__(self, source: ByteSource, flips: Mapping[int, int]) -> None:
        super().__init__(os.dup(source._descriptor), len(source), source.name, zero_unreadable=True)
        self._flips = flips

    def _read(self, start: int, size: int) -> bytes:
        data = bytearray(super()._read(start, size))
        for position, bits in self._flips.items():
            if start <= position < start + len(data):
                data[position - start] ^= bits
        return bytes(data)


class SegmentHead(NamedTuple):
    """A segment file of a directory, and the header it begins with if that can be believed."""

    name: str
    header: SegmentHeader | None


class SegmentFiles:
    """The open file, or directory, that a journal is.

    ``flips`` says which bits, of which files by their names, are to be read otherwise. Raises
    NotAJournal when it is neither. What is read of it stays good when it is closed.
    """

    __slots__ = ("_descriptor", "_flips", "_patient", "is_directory", "path")

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        patient: bool = False,
        flips: Mapping[str, Mapping[int, int]] | None = None,
    ) -> None:
        self._descriptor = -1
        self.path = Path(path)
        self._flips = flips or {}
        self._patient = patient
        self._descriptor = os.open(path, _READ)
        mode = os.fstat(self._descriptor).st_mode
        self.is_directory = stat.S_ISDIR(mode)
        if not self.is_directory and not stat.S_ISREG(mode):
            self.close()
            raise NotAJournal(f"{self.path} is not a regular file")

    def __del__(self) -> None:
        self.close()  # as a file that nobody closes is closed when nobody has it any more

    def close(self) -> None:
        """Let go of it."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    @property
    def is_replaced(self) -> bool:
        """Whether its name leads to another journal by now."""
        self._check_open()
        try:
            found = self.path.stat()
        except OSError:
            return False
        return not os.path.samestat(found, os.fstat(self._descriptor))

    def reopen(self) -> "SegmentFiles":
        """Open what its name leads to now, in the same way."""
        return SegmentFiles(self.path, patient=self._patient, flips=self._flips)

    def names(self) -> list[str]:
        """Name the segment files; one empty name stands for a journal that is a file."""
        self._check_open()
        return list_segments(self._descriptor) if self.is_directory else [""]

    def sources(self, names: list[str]) -> Iterator[ByteSource]:
        """Open the files of these names one after the other, as far as they go now."""
        for name in names:
            source = self.open(name)
            if source is not None:
                yield source

    def open(self, name: str) -> ByteSource | None:
        """Open one; None when it is not there any more. What is no file has no bytes."""
        self._check_open()
        if not self.is_directory:
            descriptor = os.dup(self._descriptor)
        else:
            try:
                descriptor = os.open(name, _READ | os.O_NOFOLLOW, dir_fd=self._descriptor)
            except FileNotFoundError:
                return None
            except OSError as error:
                unreadable = error.errno == errno.EIO and self._patient
                if error.errno not in _NO_FILE and not unreadable:
                    raise
                return ByteSource(-1, 0, name)
        status = os.fstat(descriptor)
        size = status.st_size if stat.S_ISREG(status.st_mode) else 0
        source = OwnedSource(descriptor, size, name, zero_unreadable=self._patient)
        return RepairedSource(source, self._flips[name]) if name in self._flips else source

    def read_heads(self, names: list[str]) -> list[SegmentHead]:
        """Read what each file of a directory begins with."""
        heads = []
        for source in self.sources(names):
            try:
                header = segment.read(source[0:SEGMENT_HEADER_SIZE], 0)
            except FormatError:
                heads.append(SegmentHead(source.name, None))
            else:
                heads.append(SegmentHead(source.name, header))
        return heads

    def _check_open(self) -> None:
        if self._descriptor < 0:
            raise ValueError(f"the reader of {self.path} is closed")
