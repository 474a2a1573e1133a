"""The cipher of sealed blocks, the keys and their files."""

import errno
import os
import pickle
import stat
import sys
from pathlib import Path

import pytest

from journal.errors import CorruptBlock, OptionError, WrongKey
from journal.format import seal_key, segment_seal
from journal.format.block import BlockPlacement, encode, find_flaw
from journal.format.columns import Frames
from journal.format.seal_cipher import SEAL_SIZE, SealCipher
from journal.format.seal_key import SealKey, find_wrapping_key, make_wrapping_key
from journal.format.segment_header import MINOR_SEALED, SEGMENT_MAGIC, SegmentHeader
from journal.log.writer import Writer
from tests.support.sealed_journals import KEY, OTHER_KEY

VECTORS = [
    (1, b"", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
    (3, b"c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"),
]
"""Of https://c2sp.org/XAES-256-GCM: both branches of the derivation."""


@pytest.fixture(autouse=True)
def _cheap_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal_key, "SCRYPT_COST_LOG2", 10)


@pytest.mark.parametrize(("byte", "context", "expected"), VECTORS)
def test_the_cipher_is_that_of_the_specification(
    byte: int, context: bytes, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nonce = b"ABCDEFGHIJKLMNOPQRSTUVWX"
    monkeypatch.setattr(os, "urandom", lambda size: nonce[:size])
    cipher = SealCipher(bytes([byte]) * 32)
    sealed = cipher.encrypt(b"XAES-256-GCM", context)
    assert sealed == nonce + bytes.fromhex(expected)
    assert cipher.decrypt(sealed, context) == b"XAES-256-GCM"


def test_what_was_changed_is_not_decrypted() -> None:
    cipher = SealCipher(bytes(32))
    sealed = cipher.encrypt(b"text", b"context")
    assert len(sealed) == 4 + SEAL_SIZE
    assert cipher.decrypt(sealed, b"Context") is None
    assert SealCipher(bytes([1]) * 32).decrypt(sealed, b"context") is None
    assert cipher.decrypt(sealed[:-1], b"context") is None
    assert cipher.decrypt(b"", b"context") is None
    for at in range(len(sealed)):
        changed = bytearray(sealed)
        changed[at] ^= 1
        assert cipher.decrypt(bytes(changed), b"context") is None


def test_a_key_file_is_private_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "key"
    old_mask = os.umask(0)
    try:
        KEY.write(path)
    finally:
        os.umask(old_mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert make_wrapping_key(SealKey.read(path)).key == make_wrapping_key(KEY).key
    with pytest.raises(OptionError, match="already exists"):
        KEY.write(path)


def test_a_key_file_is_durable_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_ino))
    KEY.write(tmp_path / "key")
    assert synced == [(tmp_path / "key").stat().st_ino, tmp_path.stat().st_ino]


def test_a_key_that_cannot_be_stored_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="no space"):
        KEY.write(tmp_path / "key")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("data", [b"", b"secret", b"journal-seal-key-1 AAAA\n", b"x" * 5000])
def test_another_file_is_no_key_file(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(data)
    with pytest.raises(OptionError):
        SealKey.read(path)


def test_a_key_shows_no_secret() -> None:
    assert "0x" not in repr(KEY)
    assert str(KEY) == "<SealKey>"
    with pytest.raises(TypeError):
        pickle.dumps(KEY)


@pytest.mark.parametrize("secret", [b"short", "text", bytearray(32)])
def test_only_a_secret_of_the_right_size_is_a_key(secret: bytes) -> None:
    with pytest.raises(OptionError):
        SealKey(secret)
    with pytest.raises(OptionError):
        SealKey.from_passphrase(b"")


def test_a_passphrase_is_the_first_line_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "passphrase"
    path.write_bytes("geheim früh\nignored\n".encode())
    one, two = SealKey.read_passphrase(path), SealKey.from_passphrase("geheim früh")
    made = make_wrapping_key(one)
    again = find_wrapping_key(two, made.cost_log2, made.salt)
    assert again is not None
    assert again.key == made.key
    path.write_bytes(b"\nsecond")
    with pytest.raises(OptionError, match="no passphrase"):
        SealKey.read_passphrase(path)


HEAD = SegmentHeader(7, bytes(16), 5, minor=MINOR_SEALED, is_sealed=True)


def sealed_start(key: SealKey) -> tuple[bytes, SegmentHeader]:
    raw, head = HEAD.encode()
    return raw + segment_seal.make_seal(make_wrapping_key(key), head, raw).data, head


def test_a_wrong_key_is_told_from_a_damaged_key_block() -> None:
    for key in (KEY, SealKey.from_passphrase("one")):
        data, head = sealed_start(key)
        segment_seal.load_seal(data, 0, head, [OTHER_KEY, SealKey.from_passphrase("x"), key])
        for wrong in (OTHER_KEY, SealKey.from_passphrase("two")):
            with pytest.raises(WrongKey):
                segment_seal.load_seal(data, 0, head, [wrong])
        for at in range(segment_seal.KEY_BLOCK_END - 1, 127, -1):
            changed = data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]
            with pytest.raises(CorruptBlock):
                segment_seal.load_seal(changed, 0, head, [key])


def test_a_hostile_cost_of_a_passphrase_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal_key.SealKey, "_derive", lambda *_: pytest.fail("scrypt was called"))
    for cost in (1, 9, 19, 63, 255):
        wrapping = seal_key.WrappingKey(bytes(32), cost, bytes(16))
        raw, head = HEAD.encode()
        data = raw + segment_seal.make_seal(wrapping, head, raw).data
        with pytest.raises(CorruptBlock, match="unknown values"):
            segment_seal.load_seal(data, 0, head, [SealKey.from_passphrase("x")])


def test_without_the_optional_package_a_key_is_refused_with_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    with pytest.raises(OptionError, match=r"pip install 'wasm-journal\[seal\]'"):
        Writer(tmp_path / "a.journal", key=KEY)
    assert not list(tmp_path.iterdir())
    Writer(tmp_path / "a.journal").close()


def test_a_sealed_body_never_has_the_magic_of_a_segment() -> None:
    raw, head = HEAD.encode()
    seal = segment_seal.make_seal(make_wrapping_key(KEY), head, raw).seal
    real, tries = seal._cipher, []

    class Cipher:
        def encrypt(self, plain: bytes, context: bytes) -> bytes:
            tries.append(plain)
            return SEGMENT_MAGIC if len(tries) < 3 else real.encrypt(plain, context)

    seal._cipher = Cipher()  # type: ignore[assignment]
    assert SEGMENT_MAGIC not in seal.seal(bytes(16), b"header", b"plain")
    assert len(tries) == 3


def test_a_sealed_block_is_flawed_in_another_segment() -> None:
    raw, head = HEAD.encode()
    seal = segment_seal.make_seal(make_wrapping_key(KEY), head, raw).seal
    place = BlockPlacement(
        7, 0, 408, 408, 1, 0, lambda fields, plain: seal.seal(bytes(16), fields, plain)
    )
    for seqs in (None, [0, 9]):
        data, header = encode(place, Frames([1, 2], [b"a", b"bc"], [5, 6]), seqs=seqs)
        assert header.is_sealed
        assert header.mask == (9 if seqs else 0)
        assert find_flaw(header, is_sealed=True) is None
        assert find_flaw(header) is not None
        small = header._replace(payload_size=header.payload_size - SEAL_SIZE)
        assert find_flaw(small, is_sealed=True) is not None
        opened = seal.open(header, bytes(16), data[112:])
        assert opened is not None
        plain, body = opened
        assert not plain.flags & 8
        assert body.startswith(b"abc")
        assert seal.open(header._replace(time_last=7), bytes(16), data[112:]) is None
        assert seal.open(header, b"x" * 16, data[112:]) is None
        assert seal.open(plain, bytes(16), data[112:]) is None
