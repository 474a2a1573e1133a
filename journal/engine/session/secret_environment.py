"""Secret environment variables: the guest gets their values, and the journal does not.

The journal stores the name of a secret variable among the other variables, and one salted hash of
all secrets. A resume is given the secrets again, and the hash shows whether they are the same.

> Why scrypt? The file may be stolen, and people choose values that can be guessed. A guess takes a
tenth of a second and 32 MiB.

> Why one hash? A thief must guess all secrets at once, so a strong value protects a weak one.
"""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hmac import compare_digest

from journal._arguments import check_mapping, check_text, quote, refuse
from journal.errors import NotResumable, OptionError
from journal.events.process import ProcessStart
from journal.snapshots.resume_flags import (
    SECRET_ENVIRONMENT,
    find_secrets_hash,
    list_secret_names,
)

_SCHEME = "scrypt-15-8-1"
"""Name of the hash: the logarithm of its cost, its block size and its parallelism."""
_COST, _BLOCK_SIZE, _PARALLELISM = 1 << 15, 8, 1
_MEMORY_SIZE_MAX = 2 * 128 * _BLOCK_SIZE * _COST
_SALT_SIZE = 16
_NAMES_MAX, _NAME_SIZE_MAX = 8, 64
"""Names in a message, and their characters."""
_HASH_SIZE = 32


class SecretValue:
    """Value of an environment variable that is not stored in the journal.

    Raises ``OptionError``, without the value, for a value that no variable can have.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        if not isinstance(text, str) or not _is_valid(text):
            raise OptionError(
                "a secret value must be a text without a NUL character and lone surrogates"
            )
        self._text = text

    def __repr__(self) -> str:
        return "SecretValue(…)"

    def reveal(self) -> str:
        """Return the value."""
        return self._text


def _is_valid(text: str) -> bool:
    try:
        return b"\0" not in text.encode()
    except UnicodeError:
        return False


@dataclass(frozen=True, slots=True)
class GuestEnvironment:
    """Environment variables of a guest, each ``NAME=value``; ``secret`` has the secret ones."""

    variables: tuple[bytes, ...] = ()
    secret: frozenset[bytes] = frozenset()

    def conceal(self) -> tuple[tuple[bytes, ...], tuple[tuple[str, str], ...]]:
        """Return the entries that a journal stores, and the pairs for its configuration."""
        entries = tuple(
            _name_of(variable) if variable in self.secret else variable
            for variable in self.variables
        )
        if not self.secret:
            return entries, ()
        salt = secrets.token_bytes(_SALT_SIZE)
        concealed = [variable for variable in self.variables if variable in self.secret]
        digest = _hash_secrets(concealed, salt)
        return entries, ((SECRET_ENVIRONMENT, f"{_SCHEME} {salt.hex()} {digest.hex()}"),)


def encode_environment(variables: Mapping[str, str | SecretValue]) -> GuestEnvironment:
    """Return the environment of a guest; raises ``OptionError`` for an invalid variable."""
    encoded, secret = [], set()
    for name, value in check_mapping("env", variables).items():
        if not check_text("each name of env", name) or "=" in name:
            refuse("each name of env", "a text without =, and not empty", name)
        text = value.reveal() if isinstance(value, SecretValue) else check_text("env", value)
        if "\0" in name + text:
            refuse(f"the value of {name} in env", "without a NUL character", f"{name}=…")
        encoded.append(f"{name}={text}".encode())
        if isinstance(value, SecretValue):
            secret.add(encoded[-1])
    return GuestEnvironment(tuple(encoded), frozenset(secret))


def check_secrets(values: Mapping[str, str | SecretValue] | None) -> dict[str, str]:
    """Return the values of secret variables by name; raises ``OptionError`` for an invalid one."""
    found = {}
    for name, value in check_mapping("secrets", {} if values is None else values).items():
        secret = value if isinstance(value, SecretValue) else SecretValue(value)
        found[check_text("each name of secrets", name)] = secret.reveal()
    return found


def reveal_environment(start: ProcessStart, values: Mapping[str, str]) -> tuple[bytes, ...]:
    """Return the environment of a recorded process, with the values of its secret variables.

    Raises ``NotResumable`` if a value is missing or not the recorded one, and ``OptionError`` for a
    value of a variable that is not secret.
    """
    names = list_secret_names(start)
    unknown = [name for name in values if name not in names]
    if unknown:
        raise OptionError(f"the recorded program has no secret variable {_join(unknown)}")
    missing = [name for name in names if name not in values]
    if missing:
        raise NotResumable(
            f"the journal does not contain the values of the secret variables of the program: "
            f"set {_join(missing)} again (--secret-env)"
        )
    if not names:
        return start.environment
    concealed = [f"{name}={values[name]}".encode("utf-8", "surrogateescape") for name in names]
    _check_hash(start, names, concealed)
    remaining = iter(concealed)
    return tuple(entry if b"=" in entry else next(remaining) for entry in start.environment)


def _check_hash(start: ProcessStart, names: Sequence[str], variables: Sequence[bytes]) -> None:
    scheme, _, rest = find_secrets_hash(start).partition(" ")
    try:
        salt, digest = map(bytes.fromhex, rest.split(" "))
    except ValueError:
        scheme, salt, digest = "", b"", b""
    if scheme != _SCHEME:
        raise NotResumable("the hash of the secret variables is not one that this version knows")
    if not compare_digest(digest, _hash_secrets(variables, salt)):
        which = "the secret variable" if len(names) == 1 else "one of the secret variables"
        raise NotResumable(f"{which} {_join(names)} has another value than in the recorded run")


def _hash_secrets(variables: Sequence[bytes], salt: bytes) -> bytes:
    return hashlib.scrypt(
        b"\0".join(variables),  # A variable contains no NUL.
        salt=salt,
        n=_COST,
        r=_BLOCK_SIZE,
        p=_PARALLELISM,
        maxmem=_MEMORY_SIZE_MAX,
        dklen=_HASH_SIZE,
    )


def _name_of(variable: bytes) -> bytes:
    return variable.partition(b"=")[0]


def _join(names: Sequence[str]) -> str:
    shown = [
        name if name.isidentifier() and len(name) <= _NAME_SIZE_MAX else quote(name)
        for name in names[:_NAMES_MAX]
    ]
    more = f" and {len(names) - _NAMES_MAX} more" if len(names) > _NAMES_MAX else ""
    return ", ".join(shown) + more
