"""Questions about events, as text: ``kind == "PathRename" and path glob "/tmp/*"``.

A hand-written parser makes a tree of plain values, and checks it against what events have; nothing
is ever evaluated as Python. ``str`` of a tree is a text that makes the same tree.
"""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NamedTuple, NoReturn

from journal.errors import ExpressionError
from journal.query import comparison, fields
from journal.query.literals import (
    DURATION_PATTERN,
    Duration,
    Literal,
    format_literal,
    parse_duration,
    try_parse_moment,
)

TEXT_SIZE_MAX = 1 << 12
"""Characters of an expression."""
DEPTH_MAX = 40
"""Parentheses, and nots, in one another."""

_SCALES = {
    "": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
    "Ki": 1 << 10, "ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40,
}  # fmt: skip
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "0": "\0", "\\": "\\", '"': '"', "'": "'"}
_CONSTANTS: dict[str, Literal] = {"true": True, "false": False, "none": None}
_WORDS = ("and", "or", "not", "in", "glob", "matches", *_CONSTANTS)

_TOKEN = re.compile(
    rf"""(?P<space>\s+)
    |(?P<string>[bx]?(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'))
    |(?P<moment>\d{{4}}-\d\d-\d\d(?:T[\d:.]+(?:Z|[+-]\d\d:?\d\d)?)?)
    |(?P<shift>[+-]{DURATION_PATTERN}(?![\w.]))
    |(?P<span>{DURATION_PATTERN}(?![\w.]))
    |(?P<number>[+-]?(?:0[xX][0-9a-fA-F_]+|\d[\d_]*(?:\.\d+)?(?:[TGMKk]i?)?)(?![\w.]))
    |(?P<name>\.?[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)
    |(?P<sign>==|!=|<=|>=|[<>(),])""",
    re.VERBOSE | re.ASCII | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Something that events have is held against a value, or, with ``in``, against several."""

    name: str
    operator: str
    values: tuple[Literal, ...]

    def __str__(self) -> str:
        shown = ", ".join(map(format_literal, self.values))
        return f"{self.name} {self.operator} {f'({shown})' if self.operator == 'in' else shown}"


@dataclass(frozen=True, slots=True)
class BooleanField:
    """A field that is true."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Not:
    """What holds when ``part`` does not."""

    part: "Expression"

    def __str__(self) -> str:
        return f"not {_format_operand(self.part, (And, Or))}"


@dataclass(frozen=True, slots=True)
class And:
    """What holds when all parts do: two or more."""

    parts: "tuple[Expression, ...]"

    def __str__(self) -> str:
        return " and ".join(_format_operand(part, (And, Or)) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Or:
    """What holds when one of the parts does: two or more."""

    parts: "tuple[Expression, ...]"

    def __str__(self) -> str:
        return " or ".join(_format_operand(part, (Or,)) for part in self.parts)


Expression = Comparison | BooleanField | Not | And | Or


def _format_operand(tree: Expression, bracketed: tuple[type, ...]) -> str:
    return f"({tree})" if isinstance(tree, bracketed) else str(tree)


def parse(text: str) -> Expression:
    """Make the tree of an expression; raises ExpressionError, which knows where it is wrong."""
    if len(text) > TEXT_SIZE_MAX:
        reason = f"an expression has {TEXT_SIZE_MAX} characters at most"
        raise ExpressionError(reason, text, TEXT_SIZE_MAX)
    return _Parser(text).parse()


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


class _Parser:
    """An expression that is read from left to right, one token ahead."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._tokenize()
        self._index = 0
        self._depth = 0

    def parse(self) -> Expression:
        """The whole."""
        found = self._parse_or()
        if self._token.kind != "end":
            self._fail("there is more than one question: is an and, or an or, missing?")
        return found

    def _tokenize(self) -> list[_Token]:
        tokens, at = [], 0
        while at < len(self._text):
            match = _TOKEN.match(self._text, at)
            if match is None or match.lastgroup is None:
                raise ExpressionError(self._explain_bad_token(at), self._text, at)
            if match.lastgroup != "space":
                tokens.append(_Token(match.lastgroup, match.group(), at))
            at = match.end()
        return [*tokens, _Token("end", "", at)]

    def _explain_bad_token(self, at: int) -> str:
        character = self._text[at]
        if character in "\"'":
            return "a string is not closed"
        if character == "=":
            return "to compare is written =="
        if character in "+-" or character.isdigit():
            return "this is no number: 42, 0x2a, 64k, 64Ki, 5m and 2026-11-21T10:00Z are"
        return f"{character!r} means nothing here"

    @property
    def _token(self) -> _Token:
        return self._tokens[self._index]

    def _fail(self, reason: str, token: _Token | None = None) -> NoReturn:
        raise ExpressionError(reason, self._text, (token or self._token).at)

    def _accept(self, *texts: str) -> _Token | None:
        token = self._token
        if token.kind in ("sign", "name") and token.text in texts:
            self._index += 1
            return token
        return None

    def _parse_or(self) -> Expression:
        parts = [self._parse_and()]
        while self._accept("or"):
            parts.append(self._parse_and())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _parse_and(self) -> Expression:
        parts = [self._parse_not()]
        while self._accept("and"):
            parts.append(self._parse_not())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _parse_not(self) -> Expression:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            self._fail(f"questions stand in one another {DEPTH_MAX} deep at most")
        if self._accept("not"):
            found: Expression = Not(self._parse_not())
        elif self._accept("("):
            found = self._parse_or()
            if not self._accept(")"):
                self._fail("a parenthesis is not closed")
        else:
            found = self._parse_comparison()
        self._depth -= 1
        return found

    def _parse_comparison(self) -> Expression:
        name = self._token
        if name.kind == "end":
            self._fail("something is missing here")
        if name.kind != "name" or name.text in _WORDS:
            self._fail("here should be what an event has: kind, path, a field")
        self._index += 1
        self._check_name(name)
        operator = self._accept("==", "!=", "<", "<=", ">", ">=", "in", "glob", "matches")
        if operator is None:
            self._check(name, name, "", ())
            return BooleanField(name.text)
        if operator.text != "in":
            token, value = self._parse_value()
            self._check(name, token, operator.text, (value,))
            return Comparison(name.text, operator.text, (value,))
        return Comparison(name.text, "in", self._parse_list(name))

    def _parse_list(self, name: _Token) -> tuple[Literal, ...]:
        if not self._accept("("):
            self._fail("behind in stand values in parentheses: (1, 2)")
        found: list[Literal] = []
        while not found or self._accept(","):
            token, value = self._parse_value()
            self._check(name, token, "in", (value,))
            found.append(value)
        if not self._accept(")"):
            self._fail("a parenthesis is not closed")
        return tuple(found)

    def _check_name(self, token: _Token) -> None:
        if fields.is_known(token.text):
            return
        near = get_close_matches(token.text, fields.list_names(), 1)
        hint = f": {near[0]}?" if near else "; the fields are those that inspect shows"
        self._fail(f"no event has a field {token.text}{hint}", token)

    def _check(
        self, name: _Token, token: _Token, operator: str, values: tuple[Literal, ...]
    ) -> None:
        wrong = comparison.explain_mismatch(name.text, operator, values)
        if wrong:
            self._fail(wrong, token)

    def _parse_value(self) -> tuple[_Token, Literal]:
        token = self._token
        if token.kind in ("end", "sign"):
            self._fail("here should be a value: a number, a text in quotes, a time")
        if token.kind == "name" and token.text not in _CONSTANTS:
            self._fail(f'here should be a value; text is written "{token.text}"')
        self._index += 1
        return token, self._parse_literal(token)

    def _parse_literal(self, token: _Token) -> Literal:
        if token.kind == "string":
            return self._parse_string(token)
        if token.kind == "number":
            return self._parse_number(token)
        if token.kind == "span":
            return Duration(parse_duration(token.text))
        if token.kind == "name":
            return _CONSTANTS[token.text]
        found = try_parse_moment(token.text)
        if found is None:
            self._fail("there is no such time", token)
        return found

    def _parse_number(self, token: _Token) -> int:
        text = token.text.replace("_", "")
        if text.lower().lstrip("+-").startswith("0x"):
            return int(text, 16)
        digits = text.rstrip("TGMKki")
        whole, _, part = digits.partition(".")
        scale = _SCALES[text[len(digits) :]]
        if part and int(part) * scale % 10 ** len(part):
            self._fail("numbers of events are whole", token)
        number = int(whole) * scale
        more = int(part) * scale // 10 ** len(part) if part else 0
        return number - more if whole.startswith("-") else number + more

    def _parse_string(self, token: _Token) -> str | bytes:
        prefix = token.text[0] if token.text[0] in "bx" else ""
        body = token.text[len(prefix) + 1 : -1]
        start = token.at + len(prefix) + 1
        if prefix == "x":
            try:
                return bytes.fromhex(body)
            except ValueError:
                self._fail("these are no hex digits, two for each byte", token)
        found = self._unescape(body, start)
        if not prefix:
            return found
        try:
            return found.encode("latin-1")
        except UnicodeEncodeError as error:
            raise ExpressionError("this is no byte", self._text, start + error.start) from error

    def _unescape(self, body: str, start: int) -> str:
        found, at = [], 0
        while at < len(body):
            if body[at] != "\\":
                found.append(body[at])
                at += 1
                continue
            letter = body[at + 1]
            size = {"x": 2, "u": 4, "U": 8}.get(letter, 0)
            digits = body[at + 2 : at + 2 + size]
            if letter in _ESCAPES:
                found.append(_ESCAPES[letter])
            elif size and re.fullmatch(rf"[0-9a-fA-F]{{{size}}}", digits, re.ASCII):
                if int(digits, 16) > 0x10FFFF:
                    raise ExpressionError("there is no such character", self._text, start + at)
                found.append(chr(int(digits, 16)))
            else:
                # patterns have escapes of their own: they stay as they are
                found.append("\\" + letter)
                size = 0
            at += 2 + size
        return "".join(found)
