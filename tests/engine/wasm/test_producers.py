"""The languages of a module are read from its producers section, if that makes sense."""

from __future__ import annotations

import pytest

from journal.engine.wasm.binary import MAGIC, add_size_prefix, encode_section
from journal.engine.wasm.producers import list_languages
from tests.support.programs import ROOT


def name(text: bytes) -> bytes:
    return add_size_prefix(text)


def module(*fields: tuple[bytes, list[bytes]], section: bytes = b"producers") -> bytes:
    body = bytes([len(fields)])
    for field, values in fields:
        body += name(field) + bytes([len(values)])
        body += b"".join(name(value) + name(b"1.0") for value in values)
    return MAGIC + encode_section(0, name(section) + body)


def test_the_languages_are_named() -> None:
    made = module((b"processed-by", [b"a linker"]), (b"language", [b"Go", b"C11"]))
    assert list_languages(made) == {"Go", "C11"}
    assert list_languages((ROOT / "fixtures/programs/lines.wasm").read_bytes()) <= {"Rust"}


@pytest.mark.parametrize(
    "made",
    [
        MAGIC,
        module((b"language", [b"Go"]), section=b"another"),
        module((b"processed-by", [b"Go"])),
        module((b"language", [b"Go"]))[:-1],
        MAGIC + encode_section(0, name(b"producers") + b"\xff\xff\xff\xff\x0f"),
        MAGIC + encode_section(0, b"\x7f"),
        b"no module",
    ],
    ids=[
        "none",
        "another section",
        "another field",
        "cut",
        "a large count",
        "no name",
        "no module",
    ],
)
def test_a_module_that_does_not_say_has_no_languages(made: bytes) -> None:
    assert list_languages(made) == set()
