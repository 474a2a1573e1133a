"""Cache of files that this user made: modules and facts about them.

A file of the cache can be executed, so it is used only if this user made it. Its name is a keyed
hash of its identity: no journal can tell under which name another journal looks for a file. Its
content is authenticated together with its identity, before it is interpreted.
"""

import hashlib
import mmap
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hmac import compare_digest
from pathlib import Path
from typing import NamedTuple, Self

from journal.errors import JournalError
from journal.fs import atomic_file, user_key
from journal.fs.user_key import MAC_SIZE, UserKey

_NAME_SIZE = 16
"""Bytes of a keyed hash in a file name."""
# With O_NONBLOCK, opening a FIFO does not wait.
OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""Flags for opening a file of the cache."""


class CachedContent(NamedTuple):
    """Content of a file of the cache, and its SHA-256."""

    data: bytes
    hash: bytes


class UserCache(NamedTuple):
    """Directory of authenticated files, and the key of the user.

    A cache that cannot be read or written only costs time.
    """

    folder: Path
    key: UserKey

    @classmethod
    def open(cls, folder: Path | None) -> Self:
        """Return the cache in ``folder``, or in the default directory of the user.

        The key is beside the directory. Links are resolved, so that all paths of a directory have
        the same key.
        """
        folder = resolve_cache(folder)
        return cls(folder, user_key.load_key(folder.parent / user_key.NAME))

    def make_name(self, kind: str, identity: bytes) -> str:
        """Return the name of a file without its suffix: a keyed hash of kind and identity."""
        return self.key.compute_mac("name", kind.encode(), identity)[:_NAME_SIZE].hex()

    # -- files that are read ----------------------------------------------------------------------

    def read(self, kind: str, identity: bytes) -> CachedContent | None:
        """Return the content of a file, or None if this user made no such file."""
        with suppress(OSError):
            if is_private(self.folder):
                path = self.folder / f"{self.make_name(kind, identity)}.{kind}"
                with _open_private(path) as descriptor, os.fdopen(os.dup(descriptor), "rb") as file:
                    mac, data = file.read(MAC_SIZE), file.read()
                hash_ = hashlib.sha256(data).digest()
                if compare_digest(mac, self._compute_mac(kind, identity, hash_)):
                    return CachedContent(data, hash_)
        return None

    def write(self, kind: str, identity: bytes, data: bytes) -> None:
        """Store the content of a file."""
        mac = self._compute_mac(kind, identity, hashlib.sha256(data).digest())
        self._store(f"{self.make_name(kind, identity)}.{kind}", mac + data)

    # -- files that are mapped --------------------------------------------------------------------

    def find_mapped(self, kind: str, identity: bytes) -> Iterator[Path]:
        """Yield the paths of the authentic files of ``write_mapped``.

        The folder is private, so nobody else replaces a file before it is mapped.
        """
        paths: list[Path] = []
        with suppress(OSError):
            if is_private(self.folder):
                paths += self.folder.glob(f"{self.make_name(kind, identity)}-*.{kind}")
        for path in paths:
            is_authentic = False
            with suppress(OSError, ValueError):
                mac = bytes.fromhex(path.stem.partition("-")[2])
                expected = self._compute_mac(kind, identity, _hash_file(path))
                is_authentic = compare_digest(mac, expected)
            if is_authentic:
                yield path

    def write_mapped(self, kind: str, identity: bytes, data: bytes) -> None:
        """Store a file that contains nothing but ``data``; its name has the code."""
        mac = self._compute_mac(kind, identity, hashlib.sha256(data).digest())
        self._store(f"{self.make_name(kind, identity)}-{mac.hex()}.{kind}", data)

    def _compute_mac(self, kind: str, identity: bytes, hash_: bytes) -> bytes:
        return self.key.compute_mac("file", kind.encode(), identity, hash_)

    def _store(self, name: str, content: bytes) -> None:
        with suppress(OSError, JournalError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            atomic_file.replace(self.folder / name, content)


@contextmanager
def _open_private(path: Path) -> Iterator[int]:
    """Open a file that only this user can write. Raises OSError for any other file."""
    descriptor = os.open(path, OPEN_FLAGS)
    try:
        status = os.fstat(descriptor)
        if not (stat.S_ISREG(status.st_mode) and _is_own(status)):
            raise PermissionError(f"{path} may have been written by another user")
        yield descriptor
    finally:
        os.close(descriptor)


def _hash_file(path: Path) -> bytes:
    """Return the SHA-256 of a private file, without copying its content."""
    with _open_private(path) as descriptor:
        size = os.fstat(descriptor).st_size
        with mmap.mmap(descriptor, size, access=mmap.ACCESS_READ) as content:
            return hashlib.sha256(content).digest()


def is_private(path: Path) -> bool:
    """Return whether only this user can write ``path``."""
    return _is_own(path.stat())


def _is_own(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o022


def resolve_cache(folder: Path | None) -> Path:
    """Return the path without links of a cache, by default that of the user."""
    return Path(os.path.realpath(folder or get_default_cache()))


def get_default_cache() -> Path:
    """Return the default directory for compiled modules."""
    return Path(pwd.getpwuid(os.geteuid()).pw_dir) / ".cache" / "wasm-journal" / "modules"
