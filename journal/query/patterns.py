"""Patterns for text and bytes, matched by RE2 in time linear in the subject.

> Why not re? A backtracking matcher can take years for a pattern of ten letters. The pattern comes
from any user, and the subject from any journal.
"""

import re
from typing import Any

PATTERN_SIZE_MAX = 1 << 10
"""Maximum length of a pattern in characters."""
MEMORY_SIZE_MAX = 2 << 20
"""Maximum memory of a compiled pattern, which limits its repetitions."""

_REASON_SIZE_MAX = 40
_GLOB_TOKEN = (
    r"(?s)(?P<directories>\*\*/)|(?P<any>\*\*)|(?P<name>\*)|(?P<character>\?)"
    r"|\[(?P<negation>[!^]?+)(?P<set>\]?+(?:\\.|[^\\\]])*+)\]"
    r"|(?P<unclosed>\[)|\\(?P<escaped>.)|(?P<backslash>\\)|(?P<literal>.)"
)
_GLOB_PARTS = {"directories": "(?:.*/)?", "any": ".*", "name": "[^/]*", "character": "[^/]"}
_GLOB_ERRORS = {
    "unclosed": "set is not closed",
    "backslash": "a character must follow the backslash",
}


class PatternError(ValueError):
    """Invalid pattern."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Pattern:
    """Compiled pattern of text, or of bytes, in which each byte is a character.

    RE2 keeps the last compiled patterns, so that the same pattern is compiled once.
    """

    def __init__(self, regex: str, *, is_whole: bool) -> None:
        import re2  # Imported late, because most commands need no pattern.

        options = re2.Options()
        options.max_mem = MEMORY_SIZE_MAX
        options.log_errors = False
        options.never_capture = True
        options.dot_nl = is_whole  # In a glob, a line feed is a character like any other.
        try:
            compiled = re2.compile(_encode(regex), options)
        except re2.error as error:
            raise PatternError(_format_reason(error.args[0])) from None
        self._find: Any = compiled.fullmatch if is_whole else compiled.search

    def matches(self, subject: str | bytes) -> bool:
        """Return whether the pattern matches."""
        return self._find(_encode(subject)) is not None


def compile_regex(pattern: str) -> Pattern:
    """Return a pattern for a regular expression, which may match anywhere in the subject.

    The syntax is RE2's, without look-around and back-references. Raises PatternError.
    """
    _check_size(pattern)
    return Pattern(pattern, is_whole=False)


def compile_glob(pattern: str) -> Pattern:
    """Return a pattern for a shell glob, which must match the whole subject.

    ``*`` and ``?`` do not match a slash. ``**`` does, and ``**/`` matches any number of
    directories, including none. Raises PatternError.
    """
    _check_size(pattern)
    return Pattern("".join(map(_translate, re.finditer(_GLOB_TOKEN, pattern))), is_whole=True)


def _check_size(pattern: str) -> None:
    if len(pattern) > PATTERN_SIZE_MAX:
        raise PatternError(
            f"pattern must have at most {PATTERN_SIZE_MAX} characters, got {len(pattern)}"
        )


def _translate(token: re.Match[str]) -> str:
    """Return the regular expression for a token of a glob."""
    kind = token.lastgroup
    assert kind is not None, "each alternative has a group"
    if kind in _GLOB_ERRORS:
        raise PatternError(_GLOB_ERRORS[kind])
    if kind == "set":
        # A letter or digit after a backslash remains an escape, such as \d.
        members = re.sub(r"(?s)\\([^a-zA-Z0-9])|\[", _escape_member, token["set"])
        return f"[{'^' if token['negation'] else ''}{members}]"
    return _GLOB_PARTS.get(kind) or _escape(token[kind])


def _escape_member(member: re.Match[str]) -> str:
    return _escape(member[0][-1])


def _escape(character: str) -> str:
    return f"\\x{{{ord(character):x}}}"


def _encode(text: str | bytes) -> bytes:
    """Return text as UTF-8, surrogates included. A byte becomes the character of its number."""
    if isinstance(text, bytes):
        return text if text.isascii() else text.decode("latin-1").encode()
    return text.encode("utf-8", "surrogatepass")


def _format_reason(message: bytes) -> str:
    """Return an error of RE2, with the part of the pattern after the colon cut and escaped."""
    reason, _, part = message.decode("utf-8", "backslashreplace").partition(": ")
    return f"{reason}: {part[:_REASON_SIZE_MAX]!r}" if part else reason
