"""XAES-256-GCM: authenticated encryption with nonces that may be chosen at random without limit.

The construction is that of https://c2sp.org/XAES-256-GCM: the first half of a nonce of 24 bytes
derives a key for AES-256-GCM, the second half is the nonce under this key. So two nonces never
meet, whatever processes, crashes and copies of a file draw them, and nobody has to count.
"""

import os
from typing import Any

from journal.errors import OptionError

NONCE_SIZE = 24
TAG_SIZE = 16
KEY_SIZE = 32
SEAL_SIZE = NONCE_SIZE + TAG_SIZE
"""Bytes that the encryption adds. A multiple of 8 keeps blocks aligned."""

_DERIVED_NONCE_SIZE = 12
_COUNTERS = b"\0\1X\0", b"\0\2X\0"
_REDUCTION = 0x87

assert SEAL_SIZE % 8 == 0


class SealCipher:
    """A key of XAES-256-GCM. Thread-safe."""

    __slots__ = ("_blocks", "_mask", "_sealer")

    def __init__(self, key: bytes) -> None:
        ciphers, self._sealer = _load_cryptography()
        self._blocks = ciphers.Cipher(ciphers.algorithms.AES(key), ciphers.modes.ECB())
        first = int.from_bytes(self._encrypt_blocks(bytes(16)), "big") << 1
        self._mask = (first ^ _REDUCTION if first >> 128 else first) & ((1 << 128) - 1)

    def encrypt(self, plain: bytes, context: bytes) -> bytes:
        """Return a random nonce, the encrypted bytes and their tag, which authenticates both.

        The tag also authenticates ``context``, which is not part of the result.
        """
        nonce = os.urandom(NONCE_SIZE)
        sealer = self._sealer(self._derive(nonce))
        sealed: bytes = sealer.encrypt(nonce[_DERIVED_NONCE_SIZE:], plain, context)
        return nonce + sealed

    def decrypt(self, sealed: bytes, context: bytes) -> bytes | None:
        """Return the plain bytes; None if the bytes, the context or the key are not the same."""
        from cryptography.exceptions import InvalidTag

        if len(sealed) < SEAL_SIZE:
            return None
        nonce = sealed[:NONCE_SIZE]
        sealer = self._sealer(self._derive(nonce))
        try:
            plain: bytes = sealer.decrypt(nonce[_DERIVED_NONCE_SIZE:], sealed[NONCE_SIZE:], context)
        except InvalidTag:
            return None
        return plain

    def _derive(self, nonce: bytes) -> bytes:
        prefix, mask = nonce[:_DERIVED_NONCE_SIZE], self._mask
        blocks = [int.from_bytes(counter + prefix, "big") ^ mask for counter in _COUNTERS]
        return self._encrypt_blocks(b"".join([block.to_bytes(16, "big") for block in blocks]))

    def _encrypt_blocks(self, blocks: bytes) -> bytes:
        encrypted: bytes = self._blocks.encryptor().update(blocks)
        return encrypted


def _load_cryptography() -> tuple[Any, Any]:
    """Import the optional package. Raises OptionError if it is not installed."""
    try:
        from cryptography.hazmat.primitives import ciphers
        from cryptography.hazmat.primitives.ciphers import algorithms, modes  # noqa: F401
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        raise OptionError(
            "sealed journals need the package cryptography: pip install 'wasm-journal[seal]'"
        ) from None
    return ciphers, AESGCM
