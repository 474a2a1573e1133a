"""Secret key of the current user, which authenticates the page index files that this user wrote."""

import os
import secrets
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from journal._platform import require_linux
from journal.fs import atomic_file

_SIZE = 32


class UserKey(NamedTuple):
    """Secret of this user, or a new secret for this process if no secret can be stored."""

    secret: bytes

    def new_hash(self) -> "blake2b":
        """Return a keyed hash with a digest of 32 bytes."""
        return blake2b(key=self.secret, digest_size=32)


def get_default_path() -> Path:
    """Return the path of the key in the cache directory of this user."""
    import pwd  # Windows has no such module.

    return Path(pwd.getpwuid(os.geteuid()).pw_dir) / ".cache" / "wasm-journal" / "pages.key"


def load_key(path: Path | None = None) -> UserKey:
    """Return the key of this user. Create and store it at the first use.

    Raises OptionError on a system that keeps no page index.
    """
    require_linux("keeping a page index")
    path = path or get_default_path()
    for _ in range(2):
        secret = _read(path)
        if secret is not None:
            return UserKey(secret)
        with suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            atomic_file.replace(path, secrets.token_bytes(_SIZE))
    return UserKey(secrets.token_bytes(_SIZE))


def _read(path: Path) -> bytes | None:
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            is_own = status.st_uid == os.geteuid() and not status.st_mode & 0o077
            data = os.read(descriptor, _SIZE + 1)
            return data if is_own and len(data) == _SIZE else None
        finally:
            os.close(descriptor)
    return None
