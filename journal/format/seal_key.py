"""Keys with which a user seals journals, and their files."""

import hashlib
import hmac
import os
import secrets
from threading import Lock
from typing import Self

from journal._arguments import check_flag, check_path, check_text, check_type
from journal.errors import OptionError
from journal.format import key_file
from journal.format.seal_cipher import KEY_SIZE

SALT_SIZE = 16
KEY_ID_SIZE = 8
SCRYPT_COST_LOG2 = 16
"""Binary logarithm of the cost of a passphrase in new journals: 64 MiB and 0.2 s for each guess."""
SCRYPT_COST_LOG2_MIN, SCRYPT_COST_LOG2_MAX = 10, 18
"""Costs that are accepted from a journal. The highest one needs 256 MiB."""
PASSPHRASE_SIZE_MAX = 1 << 10

_FILE_KIND = b"journal-seal-key-1"
_SCRYPT_BLOCK_SIZE = 8
_SCRYPT_MEMORY_MAX = 1 << 29
_DERIVED_KEYS_MAX = 16
_NO_SALT = bytes(SALT_SIZE)


class WrappingKey:
    """The key that encrypts the data keys of segments, and how it is made from the user's key.

    ``cost_log2`` is 0 for a random key, which needs no derivation and has a salt of zeros.
    """

    __slots__ = ("cost_log2", "key", "key_id", "salt")

    def __init__(self, secret: bytes, cost_log2: int, salt: bytes) -> None:
        self.key = hmac.digest(secret, b"journal wrapping key", "sha256")
        self.key_id = hmac.digest(secret, b"journal key id", "sha256")[:KEY_ID_SIZE]
        self.cost_log2 = cost_log2
        self.salt = salt


class SealKey:
    """Key of a user for sealed journals: 32 random bytes, or a passphrase.

    Importable as ``journal.SealKey``. ``generate`` and ``from_passphrase`` make one, ``read`` reads
    the file that ``write`` wrote. A key holds a secret, so its text form does not show it.
    """

    __slots__ = ("_derived", "_is_passphrase", "_lock", "_secret")

    def __init__(self, secret: bytes, *, is_passphrase: bool = False) -> None:
        check_type("secret", secret, bytes)
        if check_flag("is_passphrase", is_passphrase):
            if not 0 < len(secret) <= PASSPHRASE_SIZE_MAX:
                raise OptionError(
                    f"a passphrase must have 1 to {PASSPHRASE_SIZE_MAX} bytes, got {len(secret)}"
                )
        elif len(secret) != KEY_SIZE:
            raise OptionError(f"a seal key must have {KEY_SIZE} bytes, got {len(secret)}")
        self._secret = secret
        self._is_passphrase = is_passphrase
        self._derived: dict[tuple[int, bytes], WrappingKey] = {}
        self._lock = Lock()

    @classmethod
    def generate(cls) -> Self:
        """Return a new random key."""
        return cls(secrets.token_bytes(KEY_SIZE))

    @classmethod
    def from_passphrase(cls, passphrase: str | bytes) -> Self:
        """Return the key that a passphrase gives. A text is encoded as UTF-8."""
        if not isinstance(passphrase, bytes):
            passphrase = check_text("passphrase", passphrase).encode()
        return cls(passphrase, is_passphrase=True)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read a key file. Raises OptionError for a file of another kind."""
        remedy = "a seal key: make one with journaltool keygen"
        return cls(key_file.read_secret(path, _FILE_KIND, remedy))

    @classmethod
    def read_passphrase(cls, path: str | os.PathLike[str]) -> Self:
        """Return the key of the passphrase in the first line of a file."""
        lines = key_file.read_small_file(path).splitlines()
        if not lines or not lines[0]:
            raise OptionError(f"{os.fspath(path)} has no passphrase in its first line")
        return cls.from_passphrase(lines[0])

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a random key to a new file that only its owner can read."""
        check_path("path", path)
        if self._is_passphrase:
            raise OptionError("a passphrase is not written to a key file")
        key_file.write_secret(path, _FILE_KIND, self._secret)

    def serialize(self) -> bytes:
        """Return the secret for another process of the same user."""
        return bytes([self._is_passphrase]) + self._secret

    @classmethod
    def deserialize(cls, data: bytes) -> Self:
        """Return the key that ``serialize`` wrote."""
        check_type("data", data, bytes)
        return cls(data[1:], is_passphrase=data[:1] != b"\0")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __reduce__(self) -> str:
        raise TypeError("a seal key cannot be pickled: it would leave its process")

    def _derive(self, cost_log2: int, salt: bytes) -> WrappingKey:
        if not cost_log2:
            return WrappingKey(self._secret, 0, _NO_SALT)
        secret = hashlib.scrypt(
            self._secret,
            salt=salt,
            n=1 << cost_log2,
            r=_SCRYPT_BLOCK_SIZE,
            p=1,
            maxmem=_SCRYPT_MEMORY_MAX,
            dklen=KEY_SIZE,
        )
        return WrappingKey(secret, cost_log2, salt)


def find_wrapping_key(key: SealKey, cost_log2: int, salt: bytes) -> WrappingKey | None:
    """Return the wrapping key for values from a journal, or None if ``key`` is of another kind.

    Few results are kept, so that a file with many salts costs no memory.
    """
    if bool(cost_log2) != key._is_passphrase:
        return None
    with key._lock:
        found = key._derived.get((cost_log2, salt))
        if found is None:
            if len(key._derived) >= _DERIVED_KEYS_MAX:
                key._derived.pop(next(iter(key._derived)))
            found = key._derived[cost_log2, salt] = key._derive(cost_log2, salt)
    return found


def make_wrapping_key(key: SealKey) -> WrappingKey:
    """Return a wrapping key for a new journal."""
    if not key._is_passphrase:
        return WrappingKey(key._secret, 0, _NO_SALT)
    return key._derive(SCRYPT_COST_LOG2, secrets.token_bytes(SALT_SIZE))
