"""Signed journals: what a key has signed, and every change of it."""

from __future__ import annotations

import pickle
import stat
from pathlib import Path

import pytest

import journal
from journal import PublicKey, Reader, SigningKey, Writer
from journal.errors import FormatError, JournalError, NotSigned, OptionError
from journal.log import RollPolicy, check_signature, read_signed_state, sign_journal
from tests.support.sealed_journals import KEY, blocks_of, flip, lay, number_on

SIGNING_KEY = SigningKey(bytes(range(32)))
PUBLIC_KEY = SIGNING_KEY.public_key
OTHER = SigningKey(bytes(32))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.journal"
    append(path, 3)
    return path


def append(path: Path, count: int, roll: RollPolicy | None = None) -> None:
    with Writer(path, compress=False, roll=roll) as writer:
        for number in range(count):
            writer.append_frame(224, b"event %d" % number)
            writer.sync()


def test_everything_before_a_signature_is_signed(path: Path) -> None:
    with pytest.raises(NotSigned, match="is not signed by this key"):
        check_signature(path, PUBLIC_KEY)
    state = sign_journal(path, SIGNING_KEY)
    assert (state.next_seq, state.unsigned_events) == (3, 0)
    assert check_signature(path, PUBLIC_KEY) == state
    with pytest.raises(NotSigned, match="is not signed by this key"):
        check_signature(path, OTHER.public_key)
    with Reader(path) as reader:
        assert len(list(reader.frames())) == 3
        assert not list(reader.verify())
        assert reader.summary().version == (1, 1)


def test_what_is_appended_is_unsigned_until_the_next_signature(path: Path) -> None:
    sign_journal(path, SIGNING_KEY)
    data = path.read_bytes()
    sign_journal(path, SIGNING_KEY)
    assert path.read_bytes() == data  # There is nothing to sign.
    append(path, 2)
    assert read_signed_state(path, PUBLIC_KEY)[1:] == (3, 2)
    with pytest.raises(NotSigned, match="only before event 3: 2 events after it are not"):
        check_signature(path, PUBLIC_KEY)
    assert sign_journal(path, SIGNING_KEY).next_seq == 5
    sign_journal(path, OTHER)
    for key in (SIGNING_KEY, OTHER):
        assert check_signature(path, key.public_key).next_seq == 5


def test_signatures_cover_all_segments(tmp_path: Path) -> None:
    path = tmp_path / "many"
    append(path, 9, RollPolicy(500))
    sign_journal(path, SIGNING_KEY)
    assert check_signature(path, PUBLIC_KEY).next_seq == 9
    files = sorted(path.iterdir())
    assert len(files) > 2
    joined = tmp_path / "joined"
    joined.write_bytes(b"".join(file.read_bytes() for file in files))
    assert check_signature(joined, PUBLIC_KEY).next_seq == 9
    data = files[1].read_bytes()
    blocks = blocks_of(data)
    body = blocks[0].body[:3] + b"X" + blocks[0].body[4:]
    files[1].write_bytes(lay(data, [blocks[0]._replace(body=body), *blocks[1:]]))
    with pytest.raises(JournalError):
        check_signature(path, PUBLIC_KEY)


def test_every_change_with_right_hashes_is_noticed(path: Path) -> None:
    sign_journal(path, SIGNING_KEY)
    data = path.read_bytes()
    blocks = blocks_of(data)
    for index, stored in enumerate(blocks):
        for at in range(0, len(stored.body), 7):
            changed = list(blocks)
            changed[index] = stored._replace(body=flip(stored.body, 8 * at))
            path.write_bytes(lay(data, changed))
            with pytest.raises((NotSigned, FormatError)):
                check_signature(path, PUBLIC_KEY)
        kept = number_on([*blocks[:index], *blocks[index + 1 :]])
        path.write_bytes(lay(data, kept))
        with pytest.raises((NotSigned, FormatError)):
            check_signature(path, PUBLIC_KEY)
    path.write_bytes(lay(data, blocks))
    check_signature(path, PUBLIC_KEY)


def test_a_changed_journal_is_not_signed_again(path: Path) -> None:
    sign_journal(path, SIGNING_KEY)
    data = path.read_bytes()
    blocks = blocks_of(data)
    body = b"forged!" + blocks[0].body[7:]
    path.write_bytes(lay(data, [blocks[0]._replace(body=body), *blocks[1:]]))
    changed = path.read_bytes()
    append(path, 1)
    with pytest.raises(NotSigned, match="not genuine"):
        sign_journal(path, SIGNING_KEY)
    assert path.read_bytes().startswith(changed)


def test_a_signature_of_another_journal_is_not_accepted(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    append(other, 3)
    sign_journal(other, SIGNING_KEY)
    signature = blocks_of(other.read_bytes())[-1]
    data = path.read_bytes()
    path.write_bytes(lay(data, [*blocks_of(data), signature]))
    with pytest.raises(NotSigned, match="not genuine"):
        check_signature(path, PUBLIC_KEY)


def test_a_sealed_journal_is_signed_too(tmp_path: Path) -> None:
    path = tmp_path / "sealed"
    with Writer(path, key=KEY) as writer:
        writer.append_frame(224, b"secret")
    sign_journal(path, SIGNING_KEY, key=KEY)
    assert check_signature(path, PUBLIC_KEY, key=KEY).next_seq == 1
    assert PUBLIC_KEY.raw not in path.read_bytes()


def test_a_rewritten_journal_is_unsigned(path: Path, tmp_path: Path) -> None:
    sign_journal(path, SIGNING_KEY)
    journal.concat([path], tmp_path / "copy")
    assert read_signed_state(tmp_path / "copy", PUBLIC_KEY)[1:] == (0, 3)


def test_keys_are_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "key"
    SIGNING_KEY.write(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SigningKey.read(path).public_key == PUBLIC_KEY
    assert PublicKey.parse(str(PUBLIC_KEY)) == PUBLIC_KEY
    (tmp_path / "public").write_text(f"{PUBLIC_KEY}\n")
    assert PublicKey.read(tmp_path / "public") == PUBLIC_KEY
    assert len({PUBLIC_KEY, OTHER.public_key, PublicKey(PUBLIC_KEY.raw)}) == 2
    with pytest.raises(TypeError):
        pickle.dumps(SIGNING_KEY)
    for text in ("", "x", str(PUBLIC_KEY)[:-4]):
        with pytest.raises(OptionError, match="is not a public key"):
            PublicKey.parse(text)
    path.write_text("journal-seal-key-1 AAAA")
    with pytest.raises(OptionError, match="is not a signing key"):
        SigningKey.read(path)
    with pytest.raises(OptionError):
        sign_journal(path, b"key")  # type: ignore[arg-type]
