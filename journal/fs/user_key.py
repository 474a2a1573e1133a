"""Secret key of the current user, which authenticates files that this user wrote.

Page indexes and all files of the cache are authenticated with it: compiled and instrumented
modules, and memory images. So a file that somebody else made is not used, whatever journal it came
with. ``spec/decisions/0043`` has the measurements behind the choice of the hash.
"""

import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from journal._platform import NO_FOLLOW, OPEN_FLAGS, require_linux
from journal.fs import atomic_file

NAME = "user.key"
"""Name of the file, in the directory that contains the caches."""
MAC_SIZE = 32
"""Size in bytes of an authentication code."""

_SIZE = 32


class UserKey(NamedTuple):
    """Secret of this user, or a new secret for this process if no secret can be stored."""

    secret: bytes

    def new_mac(self, purpose: str) -> "hmac.HMAC":
        """Return an HMAC-SHA-256 for one purpose; codes of different purposes are unrelated."""
        code = hmac.new(self.secret, digestmod="sha256")
        code.update(purpose.encode() + b"\0")
        return code

    def compute_mac(self, purpose: str, *parts: bytes) -> bytes:
        """Return the authentication code of ``parts``, which may be cut in no other way."""
        code = self.new_mac(purpose)
        for part in parts:
            code.update(len(part).to_bytes(8, "little") + part)
        return code.digest()


def get_default_path() -> Path:
    """Return the path of the key in the cache directory of this user."""
    import pwd  # Windows has no such module.

    return Path(pwd.getpwuid(os.geteuid()).pw_dir) / ".cache" / "wasm-journal" / NAME


def load_key(path: Path | None = None) -> UserKey:
    """Return the key of this user. Create and store it at the first use.

    Raises OptionError on a system that does not write.
    """
    require_linux("storing a key")
    try:
        return make_key(path or get_default_path())
    except OSError:
        return UserKey(secrets.token_bytes(_SIZE))


def make_key(path: Path) -> UserKey:
    """Return the key in a file, which is created at the first use.

    Raises OSError if it cannot be stored.
    """
    for _ in range(2):
        key = find_key(path)
        if key is not None:
            return key
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):  # Another process may have stored one.
            _create(path)
    key = find_key(path)
    if key is None:
        raise PermissionError(f"{path} cannot be made private to this user")
    return key


def find_key(path: Path) -> UserKey | None:
    """Return the key in a file, or None if it has none that only this user can read."""
    secret = _read(path)
    return None if secret is None else UserKey(secret)


def _create(path: Path) -> None:
    """Store a new secret, unless another process has stored one first.

    A file that holds no secret of this user is replaced.
    """
    secret = secrets.token_bytes(_SIZE)
    if os.path.lexists(path):
        atomic_file.replace(path, secret)
        return
    temporary = atomic_file.make_temporary_path(path)
    with os.fdopen(atomic_file.create_private(temporary), "wb") as file:
        file.write(secret)
        file.flush()
        os.fsync(file.fileno())  # Without its key, an approval that survives a power cut is lost.
    try:
        atomic_file.publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _read(path: Path) -> bytes | None:
    with suppress(OSError):
        descriptor = os.open(path, OPEN_FLAGS | NO_FOLLOW)
        try:
            status = os.fstat(descriptor)
            is_own = status.st_uid == os.geteuid() and not status.st_mode & 0o077
            data = os.read(descriptor, _SIZE + 1)
            return data if is_own and len(data) == _SIZE else None
        finally:
            os.close(descriptor)
    return None
