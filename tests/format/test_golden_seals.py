"""The sealed fixtures are read by the library, and by the words of spec/format.md alone."""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import journal
from fixtures.regenerate_seals import (
    EXPECTED,
    FOLDER,
    KEY_FILE,
    PASSPHRASE,
    SECRET,
    SHAPES,
    SIGNED,
    key_of,
    read_facts,
)
from journal import SigningKey
from journal.errors import NotSigned, UnsupportedVersion
from journal.format import segment_header
from journal.log import check_signature, read_signed_state

FACTS = json.loads(EXPECTED.read_text())


def decrypt(key: bytes, data: bytes, context: bytes) -> bytes:
    """Decrypt XAES-256-GCM, by its specification."""
    nonce, sealed = data[:24], data[24:]
    aes = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    subkey = int.from_bytes(aes.update(bytes(16)), "big")
    subkey = (subkey << 1 & (1 << 128) - 1) ^ (0x87 if subkey >> 127 else 0)
    derived = b""
    for number in (1, 2):
        block = int.from_bytes(struct.pack(">HBB", number, 0x58, 0) + nonce[:12], "big")
        derived += aes.update((block ^ subkey).to_bytes(16, "big"))
    return AESGCM(derived).decrypt(nonce[12:], sealed, context)


def open_segment(data: bytes, key: bytes | str) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield sequence number, tag, time and payload of the events of a segment."""
    head, block, payload = data[:128], data[128:240], data[240:368]
    assert struct.unpack_from("<HHII", head, 8) == (1, 2, 128, 1)
    assert struct.unpack_from("<II", block, 12) == (0, 128)
    magic, derivation, cost, salt, key_id = struct.unpack_from("<8sBB6x16s8s", payload)
    assert magic == b"\x89JNLKEY\n"
    secret = key
    if isinstance(secret, str):
        secret = hashlib.scrypt(
            secret.encode(), salt=salt, n=1 << cost, r=8, p=1, dklen=32, maxmem=1 << 29
        )
    assert derivation == isinstance(key, str)
    assert hmac.digest(secret, b"journal key id", "sha256")[:8] == key_id
    wrapping = hmac.digest(secret, b"journal wrapping key", "sha256")
    data_key = decrypt(wrapping, payload[56:], head + payload[:56])
    at = 368
    while data[at : at + 8] == b"\x89JNLBLK\n":
        (codec, flags, count, size, raw_size, columns_size, last) = struct.unpack_from(
            "<BB2xIIIII", data, at + 8
        )
        first_seq, _, time, _, offset, before = struct.unpack_from("<6Q", data, at + 32)
        assert flags & 8
        assert offset == at
        end = at + 112 + size + columns_size
        context = data[at : at + 96] + data[before - 16 : before]
        body = decrypt(data_key, data[at + 112 : end], context)
        stored, columns = body[: size - 40], body[size - 40 :]
        raw = zstandard.decompress(stored) if codec else stored
        assert len(raw) == raw_size
        yield from read_events(raw, columns, flags, count, first_seq, time, last)
        at = end


def read_events(
    raw: bytes, columns: bytes, flags: int, count: int, first_seq: int, time: int, last: int
) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield the events of a block from its payload and columns."""
    if not count:
        return

    def take(is_present: int) -> tuple[int, ...] | None:
        nonlocal columns
        if not is_present:
            return None
        values = struct.unpack_from(f"<{count}I", columns)
        columns = columns[4 * count :]
        return values

    size = len(raw) // count
    ends = take(not flags & 4) or tuple(size * (index + 1) for index in range(count))
    tags, columns = columns[:count], columns[count:]
    times = take(flags & 1) or (0,) * count
    seqs = take(flags & 2) or tuple(range(count))
    assert last == (seqs[-1] if flags & 2 else 0)
    start = 0
    for index, end in enumerate(ends):
        yield first_seq + seqs[index], tags[index], time + times[index], raw[start:end]
        start = end


@pytest.mark.parametrize("name", SHAPES)
def test_a_sealed_fixture_is_read_as_when_it_was_written(name: str) -> None:
    assert read_facts(FOLDER / name) == FACTS[name]


@pytest.mark.parametrize("name", SHAPES)
def test_the_specification_is_enough_to_read_a_sealed_fixture(name: str) -> None:
    path = FOLDER / name
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    key = PASSPHRASE if name.startswith("pass") else SECRET
    rows = [row for file in files for row in open_segment(file.read_bytes(), key)]
    found = [f"{seq} {tag} {time} {payload.hex()}" for seq, tag, time, payload in rows]
    assert found == FACTS[name]["frames"]
    state = hashlib.sha256()
    for file in files:
        state.update(file.read_bytes())  # They were closed, and no crash left anything.
    assert FACTS[name]["head"].endswith(state.hexdigest())


@pytest.mark.parametrize("name", SHAPES)
def test_a_sealed_fixture_is_continued(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    (shutil.copytree if (FOLDER / name).is_dir() else shutil.copy2)(FOLDER / name, path)
    with journal.Writer(path, key=key_of(name)) as writer:
        seq = writer.append_frame(224, b"more")
    with journal.Reader(path, key=key_of(name)) as reader:
        assert reader.frame(seq).payload == b"more"
        assert not list(reader.verify())


def test_the_signed_fixture_is_signed_except_for_its_last_event() -> None:
    """Read by the library, and by the words of the specification."""
    path, public_key = FOLDER / SIGNED, SigningKey(SECRET).public_key
    assert str(read_signed_state(path, public_key)) == FACTS[SIGNED]
    data = path.read_bytes()
    at = data.index(b"\x89JNLSIG\n")
    raw, signature = data[at + 8 : at + 40], data[at + 40 : at + 104]
    assert raw == public_key.raw
    head = hashlib.sha256(data[: at - 112]).digest()
    Ed25519PublicKey.from_public_bytes(raw).verify(signature, b"signed journal 1" + head)
    with pytest.raises(NotSigned, match="1 events after it"):
        check_signature(path, public_key)


def test_the_key_file_of_the_fixtures_is_read() -> None:
    with journal.Reader(FOLDER / "key-file.journal", key=journal.SealKey.read(KEY_FILE)) as reader:
        assert len(list(reader.frames())) == 12


def test_a_version_before_seals_refuses_a_sealed_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_header, "INCOMPATIBLE_FEATURES_KNOWN", 0)
    with pytest.raises(UnsupportedVersion, match="features 0x1 is not supported"):
        journal.Reader(FOLDER / "key-file.journal")
