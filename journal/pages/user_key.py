"""A secret of this user, by which is known what was written here, and by nobody else."""

import os
import pwd
import secrets
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from journal.fs import atomic_file

_SIZE = 32


class UserKey(NamedTuple):
    """A secret; a new one where it could not be kept, which is then good for this process alone."""

    secret: bytes

    def new_hash(self) -> "blake2b":
        """What gives 32 bytes that nobody can who does not know the secret."""
        return blake2b(key=self.secret, digest_size=32)


def get_default_path() -> Path:
    """Where it is kept: beside what else is kept for this user."""
    return Path(pwd.getpwuid(os.geteuid()).pw_dir) / ".cache" / "wasm-journal" / "pages.key"


def load_key(path: Path | None = None) -> UserKey:
    """The secret, which is made when it is asked for first."""
    path = path or get_default_path()
    for _ in range(2):
        found = _read(path)
        if found is not None:
            return UserKey(found)
        with suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            atomic_file.replace(path, secrets.token_bytes(_SIZE))
    return UserKey(secrets.token_bytes(_SIZE))


def _read(path: Path) -> bytes | None:
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            found = os.fstat(descriptor)
            is_own = found.st_uid == os.geteuid() and not found.st_mode & 0o077
            data = os.read(descriptor, _SIZE + 1)
            return data if is_own and len(data) == _SIZE else None
        finally:
            os.close(descriptor)
    return None
