"""Signatures of journals: sign the state of a journal, and find what a key has signed."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from journal._arguments import check_path, check_type
from journal.errors import NotSigned
from journal.format.signature import PublicKey, SigningKey, read_signature
from journal.log.head import EMPTY, Head, iterate_heads
from journal.log.scan_items import ScannedBlock
from journal.log.writer import Writer

if TYPE_CHECKING:
    from journal.format.seal_key import SealKey


class SignedState(NamedTuple):
    """Signed part of a journal, by one key. Importable as ``journal.log.SignedState``.

    Everything before the event ``next_seq`` is signed; ``unsigned_events`` come after it. ``head``
    is the signed head, None without a signature.
    """

    head: Head | None
    next_seq: int
    unsigned_events: int


def sign_journal(
    path: str | os.PathLike[str], signing_key: SigningKey, *, key: "SealKey | None" = None
) -> SignedState:
    """Sign everything that a journal contains now, with a block at its end.

    The whole journal is read before and after that. Raises NotSigned if the key has signed an
    earlier state and that signature is no longer genuine, and the errors of opening the journal for
    writing.
    """
    path = check_path("path", path)
    check_type("signing_key", signing_key, SigningKey)
    with Writer(path, key=key) as writer:
        before, head = _read_state(path, signing_key.public_key, key)
        if before.head is None or before.unsigned_events:
            writer.append_signature(signing_key.make_payload(head.digest))
    return read_signed_state(path, signing_key.public_key, key=key)


def read_signed_state(
    path: str | os.PathLike[str], public_key: PublicKey, *, key: "SealKey | None" = None
) -> SignedState:
    """Return what ``public_key`` has signed of a journal.

    Raises NotSigned for a false signature in its name, and a FormatError for any damage.
    """
    check_type("public_key", public_key, PublicKey)
    state, _ = _read_state(check_path("path", path), public_key, key)
    return state


def _read_state(
    path: str | os.PathLike[str], public_key: PublicKey, key: "SealKey | None"
) -> tuple[SignedState, Head]:
    """Return what ``public_key`` has signed of a journal, and the head of the journal."""
    before, signed, events = EMPTY, None, 0
    for head, item in iterate_heads(path, key):
        if isinstance(item, ScannedBlock):
            events += item.header.frame_count
            signature = None if item.header.frame_count else _find_signature(item, public_key)
            if signature is not None:
                if not public_key.is_signature(signature, before.digest):
                    name = Path(path)
                    raise NotSigned(f"{name} has a signature of this key that is not genuine")
                signed, events = before, 0
        before = head
    return SignedState(signed, signed.next_seq if signed else 0, events), before


def check_signature(
    path: str | os.PathLike[str], public_key: PublicKey, *, key: "SealKey | None" = None
) -> SignedState:
    """Return the signed state of a journal of which ``public_key`` has signed every event.

    Raises NotSigned for any other journal.
    """
    state = read_signed_state(path, public_key, key=key)
    if state.head is None:
        raise NotSigned(f"{os.fspath(path)} is not signed by this key")
    if state.unsigned_events:
        raise NotSigned(
            f"{os.fspath(path)} is signed by this key only before event {state.next_seq}: "
            f"{state.unsigned_events} events after it are not"
        )
    return state


def _find_signature(item: ScannedBlock, public_key: PublicKey) -> bytes | None:
    return read_signature(item.block(), public_key)
