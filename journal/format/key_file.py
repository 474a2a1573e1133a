"""Files of the keys with which a user seals or signs journals.

Such a file has one line: the name of its kind, a space, and 32 bytes in base64.
"""

import base64
import binascii
import os
from contextlib import suppress
from pathlib import Path

from journal._arguments import check_path
from journal.errors import OptionError
from journal.fs import atomic_file

SECRET_SIZE = 32
_FILE_SIZE_MAX = 1 << 12


def read_small_file(path: str | os.PathLike[str]) -> bytes:
    """Read a file of keys. Raises OptionError if it is larger than such a file."""
    with Path(check_path("path", path)).open("rb") as file:
        data = file.read(_FILE_SIZE_MAX + 1)
    if len(data) > _FILE_SIZE_MAX:
        raise OptionError(
            f"{os.fspath(path)} is too large for a key, the limit is {_FILE_SIZE_MAX}"
        )
    return data


def read_secret(path: str | os.PathLike[str], kind: bytes, remedy: str) -> bytes:
    """Return the secret in a key file. Raises OptionError with ``remedy`` for any other file."""
    name, _, encoded = read_small_file(path).strip().partition(b" ")
    with suppress(binascii.Error):
        secret = base64.b64decode(encoded, validate=True)
        if name == kind and len(secret) == SECRET_SIZE:
            return secret
    raise OptionError(f"{os.fspath(path)} is not {remedy}")


def write_secret(path: str | os.PathLike[str], kind: bytes, secret: bytes) -> None:
    """Write a secret durably to a new file that only its owner can read.

    Raises OptionError if the path exists. After a failure there is no file.
    """
    try:
        descriptor = atomic_file.create_private(check_path("path", path))
    except FileExistsError:
        raise OptionError(f"{os.fspath(path)} already exists: choose another path") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(kind + b" " + base64.b64encode(secret) + b"\n")
            file.flush()
            os.fsync(descriptor)
        # A power cut that took the name of the key would take each journal that it has sealed.
        atomic_file.sync_directory(Path(path).parent)
    except BaseException:
        with suppress(OSError):
            Path(path).unlink()
        raise
