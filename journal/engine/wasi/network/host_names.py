"""Host names: their normal form, and patterns that match them."""

import re
from dataclasses import dataclass

HOST_NAME_SIZE_MAX = 253
"""Longest host name in its normal form, as in DNS."""
LABEL_SIZE_MAX = 63

LOCALHOST = "localhost"

_TEXT_SIZE_MAX = 1024
"""Longest text that is taken for a name: the encoding of labels takes quadratic time."""
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_WILDCARD = "*."


def normalize_name(text: str) -> str | None:
    """Return the normal form of a host name, or None for a text that is no host name.

    The normal form is ASCII in lower case without a dot at its end. Labels in other scripts are
    encoded as IDNA 2003 does. A name whose last label is a number is none, because the resolver of
    the host would read it as an IPv4 address in an old notation, such as ``127.1`` or ``0x7f.1``.
    """
    if len(text) > _TEXT_SIZE_MAX:
        return None
    if not text.isascii():
        try:
            text = text.encode("idna").decode("ascii")
        except UnicodeError:
            return None
    name = text.lower().removesuffix(".")
    if len(name) > HOST_NAME_SIZE_MAX:
        return None
    labels = name.split(".")
    for label in labels:
        if len(label) > LABEL_SIZE_MAX or not _LABEL.fullmatch(label):
            return None
    return None if _NUMBER.fullmatch(labels[-1]) else name


def is_localhost(name: str) -> bool:
    """Return whether a name in its normal form always means this machine (RFC 6761)."""
    return name == LOCALHOST or name.endswith(f".{LOCALHOST}")


@dataclass(frozen=True, slots=True)
class NamePattern:
    """Pattern of host names: one name, or all names below a domain.

    ``suffix`` is the name, or the domain after a dot. ``*.example.org`` matches
    ``a.b.example.org``, but neither ``example.org`` nor ``evil-example.org``.
    """

    suffix: str

    @classmethod
    def parse(cls, text: str) -> "NamePattern | None":
        """Return the pattern of a text, or None for a text that is no pattern."""
        is_wildcard = text.startswith(_WILDCARD)
        name = normalize_name(text.removeprefix(_WILDCARD))
        if name is None:
            return None
        return cls(f".{name}" if is_wildcard else name)

    def matches(self, name: str) -> bool:
        """Return whether the pattern matches a name in its normal form."""
        if not self.suffix.startswith("."):
            return name == self.suffix
        return name.endswith(self.suffix) and len(name) > len(self.suffix)

    def __str__(self) -> str:
        return f"*{self.suffix}" if self.suffix.startswith(".") else self.suffix
