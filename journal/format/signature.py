"""Ed25519 signatures of a journal's state, and the block that carries one.

A signature block has no events, so a reader that does not know it skips it.
"""

import base64
import binascii
import os
import struct
from typing import Any, Self

from journal._arguments import check_text, check_type
from journal.errors import OptionError
from journal.format import key_file
from journal.format.block import Block

SIGNATURE_MAGIC = b"\x89JNLSIG\n"
PUBLIC_KEY_SIZE = 32
_SIGNATURE_SIZE = 64
_LAYOUT = struct.Struct(f"<8s{PUBLIC_KEY_SIZE}s{_SIGNATURE_SIZE}s")
_PREFIX = "journal-public-key-1 "
_FILE_KIND = b"journal-signing-key-1"
_CONTEXT = b"signed journal 1"

assert _LAYOUT.size % 8 == 0


class PublicKey:
    """Key that checks the signatures of a SigningKey. Importable as ``journal.PublicKey``."""

    __slots__ = ("raw",)

    def __init__(self, raw: bytes) -> None:
        if not isinstance(raw, bytes) or len(raw) != PUBLIC_KEY_SIZE:
            raise OptionError(f"a public key must be {PUBLIC_KEY_SIZE} bytes")
        self.raw = raw

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    def __str__(self) -> str:
        return _PREFIX + base64.b64encode(self.raw).decode()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the key for its text form, with or without its first word."""
        encoded = check_text("text", text).strip().removeprefix(_PREFIX)
        try:
            return cls(base64.b64decode(encoded, validate=True))
        except (OptionError, ValueError, binascii.Error):
            raise OptionError(
                f"{text[:80]!r} is not a public key; pass what journaltool keygen --sign printed"
            ) from None

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read the file of a public key."""
        return cls.parse(key_file.read_small_file(path).decode("ascii", "replace"))

    def is_signature(self, signature: bytes, digest: bytes) -> bool:
        """Return whether ``signature`` is one of ``digest``."""
        check_type("signature", signature, bytes)
        check_type("digest", digest, bytes)
        ed25519, invalid = _load_cryptography()
        try:
            ed25519.Ed25519PublicKey.from_public_bytes(self.raw).verify(
                signature, _CONTEXT + digest
            )
        except (invalid, ValueError):
            return False
        return True


class SigningKey:
    """Key that signs journals: 32 random bytes. Importable as ``journal.SigningKey``.

    ``generate`` makes one, and ``read`` reads the file that ``write`` wrote.
    """

    __slots__ = ("_key", "_secret", "public_key")

    def __init__(self, secret: bytes) -> None:
        if not isinstance(secret, bytes) or len(secret) != PUBLIC_KEY_SIZE:
            raise OptionError(f"a signing key must be {PUBLIC_KEY_SIZE} bytes")
        ed25519, _ = _load_cryptography()
        self._secret = secret
        self._key = ed25519.Ed25519PrivateKey.from_private_bytes(secret)
        self.public_key = PublicKey(self._key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls) -> Self:
        """Return a new random key."""
        return cls(os.urandom(PUBLIC_KEY_SIZE))

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read a key file. Raises OptionError for a file of another kind."""
        remedy = "a signing key: make one with journaltool keygen --sign"
        return cls(key_file.read_secret(path, _FILE_KIND, remedy))

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the key to a new file that only its owner can read."""
        key_file.write_secret(path, _FILE_KIND, self._secret)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.public_key}>"

    def __reduce__(self) -> str:
        raise TypeError("a signing key cannot be pickled: it would leave its process")

    def make_payload(self, digest: bytes) -> bytes:
        """Return the payload of a block that signs ``digest``."""
        check_type("digest", digest, bytes)
        signature = self._key.sign(_CONTEXT + digest)
        return _LAYOUT.pack(SIGNATURE_MAGIC, self.public_key.raw, signature)


def read_signature(block: Block, public_key: PublicKey) -> bytes | None:
    """Return the signature that a block states to be one of ``public_key``, or None."""
    header = block.header
    if header.frame_count or header.payload_raw_size != _LAYOUT.size or header.codec:
        return None
    magic, raw, signature = _LAYOUT.unpack(block.read_payload())
    is_own = magic == SIGNATURE_MAGIC and raw == public_key.raw
    return bytes(signature) if is_own else None


def _load_cryptography() -> tuple[Any, type[Exception]]:
    """Import the optional package. Raises OptionError if it is not installed."""
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise OptionError(
            "signed journals need the package cryptography: pip install 'wasm-journal[seal]'"
        ) from None
    return ed25519, InvalidSignature
