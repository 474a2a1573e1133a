"""Parser and syntax tree of the query language: ``kind == "PathRename" and path glob "/tmp/*"``.

A hand-written parser builds a tree of plain values and checks the names and types of fields.
Nothing is ever evaluated as Python. ``str`` of a tree is text that parses to the same tree.
"""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NamedTuple, NoReturn

from journal._arguments import check_text, check_type, refuse
from journal.errors import ExpressionError
from journal.query import comparison
from journal.query.fields import BUILT_IN, Vocabulary
from journal.query.literals import (
    DURATION_PATTERN,
    TIME_EXAMPLES,
    Duration,
    Literal,
    format_literal,
    parse_duration,
    try_parse_moment,
)

TEXT_SIZE_MAX = 1 << 12
"""Maximum length of an expression in characters."""
DEPTH_MAX = 40
"""Maximum nesting depth of parentheses and ``not``."""

_TREE_DEPTH_MAX = 4 * DEPTH_MAX
"""Maximum depth of a tree, which is deeper than its text is nested."""
_OPERATORS = ("==", "!=", "<", "<=", ">", ">=", "in", "glob", "matches")

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
    """Comparison of a field with a value, or with several values for ``in``."""

    name: str
    operator: str
    values: tuple[Literal, ...]

    def __str__(self) -> str:
        values = ", ".join(map(format_literal, self.values))
        return f"{self.name} {self.operator} {f'({values})' if self.operator == 'in' else values}"


@dataclass(frozen=True, slots=True)
class BooleanField:
    """Test of a boolean field."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Not:
    """Negation."""

    part: "Expression"

    def __str__(self) -> str:
        return f"not {_format_operand(self.part, (And, Or))}"


@dataclass(frozen=True, slots=True)
class And:
    """Conjunction of two or more parts."""

    parts: "tuple[Expression, ...]"

    def __str__(self) -> str:
        return " and ".join(_format_operand(part, (And, Or)) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Or:
    """Disjunction of two or more parts."""

    parts: "tuple[Expression, ...]"

    def __str__(self) -> str:
        return " or ".join(_format_operand(part, (Or,)) for part in self.parts)


Expression = Comparison | BooleanField | Not | And | Or


def _format_operand(tree: Expression, bracketed: tuple[type, ...]) -> str:
    return f"({tree})" if isinstance(tree, bracketed) else str(tree)


def check_expression(name: str, tree: Expression) -> Expression:
    """Return a tree that may have been built by hand: of the types and operators of the parser."""
    pending: list[tuple[object, int]] = [(tree, 0)]
    while pending:
        node, depth = pending.pop()
        if depth > _TREE_DEPTH_MAX:
            refuse(name, f"nested at most {_TREE_DEPTH_MAX} deep", tree)
        if isinstance(node, And | Or) and isinstance(node.parts, tuple) and node.parts:
            pending += ((part, depth + 1) for part in node.parts)
        elif isinstance(node, Not):
            pending.append((node.part, depth + 1))
        elif isinstance(node, Comparison | BooleanField):
            _check_leaf(name, node)
        else:
            refuse(name, "an expression or its text", node)
    return tree


def _check_leaf(name: str, leaf: Comparison | BooleanField) -> None:
    check_text(f"each field of {name}", leaf.name)
    if isinstance(leaf, BooleanField):
        return
    if leaf.operator not in _OPERATORS:
        refuse(f"each operator of {name}", " ".join(_OPERATORS), leaf.operator)
    if not isinstance(leaf.values, tuple) or not leaf.values:
        refuse(f"the values of {leaf.name} in {name}", "a tuple", leaf.values)
    for value in leaf.values:
        if not isinstance(value, Literal):
            refuse(f"each value of {leaf.name} in {name}", "a literal", value)


def parse(text: str, vocabulary: Vocabulary = BUILT_IN) -> Expression:
    """Return the tree of an expression. Raises ExpressionError with the position of the error.

    ``vocabulary`` has the names that the expression can use.
    """
    check_text("expression", text)
    check_type("vocabulary", vocabulary, Vocabulary)
    if len(text) > TEXT_SIZE_MAX:
        reason = f"expression must have at most {TEXT_SIZE_MAX} characters, got {len(text)}"
        raise ExpressionError(reason, text, TEXT_SIZE_MAX)
    return _Parser(text, vocabulary).parse()


def check_meaning(tree: Expression, vocabulary: Vocabulary) -> Expression:
    """Return a tree that a caller built. Raises ExpressionError as ``parse`` does for its text."""
    text = str(tree)
    if _Parser(text, vocabulary).parse() != tree:
        raise ExpressionError("the tree has not the form of a parsed expression", text, 0)
    return tree


class _Token(NamedTuple):
    """Token of an expression, at an index of the text."""

    kind: str
    text: str
    at: int


class _Parser:
    """Recursive-descent parser with one token of look-ahead."""

    def __init__(self, text: str, vocabulary: Vocabulary) -> None:
        self._text = text
        self._vocabulary = vocabulary
        self._tokens = self._tokenize()
        self._index = 0
        self._depth = 0

    def parse(self) -> Expression:
        """Return the tree of the whole expression."""
        expression = self._parse_or()
        if self._token.kind != "end":
            self._fail("expected the end of the expression; join conditions with and, or with or")
        return expression

    def _tokenize(self) -> list[_Token]:
        tokens, position = [], 0
        while position < len(self._text):
            match = _TOKEN.match(self._text, position)
            if match is None or match.lastgroup is None:
                raise ExpressionError(self._explain_bad_token(position), self._text, position)
            if match.lastgroup != "space":
                tokens.append(_Token(match.lastgroup, match.group(), position))
            position = match.end()
        return [*tokens, _Token("end", "", position)]

    def _explain_bad_token(self, at: int) -> str:
        character = self._text[at]
        if character in "\"'":
            return "string is not closed"
        if character == "=":
            return "unexpected =; use == to compare"
        if character in "+-" or character.isdigit():
            return "invalid number; examples: 42, 0x2a, 64k, 64Ki, 5m, 2026-11-21T10:00Z"
        return f"unexpected character {character!r}"

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
            self._fail(f"expression is nested too deeply, at most {DEPTH_MAX} levels are allowed")
        if self._accept("not"):
            expression: Expression = Not(self._parse_not())
        elif self._accept("("):
            expression = self._parse_or()
            if not self._accept(")"):
                self._fail("parenthesis is not closed")
        else:
            expression = self._parse_comparison()
        self._depth -= 1
        return expression

    def _parse_comparison(self) -> Expression:
        name = self._token
        if name.kind == "end":
            self._fail("expected a condition at the end of the expression")
        if name.kind != "name" or name.text in _WORDS:
            self._fail("expected a field, such as kind or path")
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
            self._fail("expected values in parentheses after in, such as (1, 2)")
        values: list[Literal] = []
        while not values or self._accept(","):
            token, value = self._parse_value()
            self._check(name, token, "in", (value,))
            values.append(value)
        if not self._accept(")"):
            self._fail("parenthesis is not closed")
        return tuple(values)

    def _check_name(self, token: _Token) -> None:
        if self._vocabulary.is_known(token.text):
            return
        near = get_close_matches(token.text, self._vocabulary.list_names(), 1)
        hint = f"did you mean {near[0]}?" if near else "journaltool inspect shows the fields"
        self._fail(f"unknown field {token.text}: {hint}", token)

    def _check(
        self, name: _Token, token: _Token, operator: str, values: tuple[Literal, ...]
    ) -> None:
        reason = comparison.explain_mismatch(name.text, operator, values, self._vocabulary)
        if reason:
            self._fail(reason, token)

    def _parse_value(self) -> tuple[_Token, Literal]:
        token = self._token
        if token.kind in ("end", "sign"):
            self._fail("expected a value: a number, a text in quotes, or a time")
        if token.kind == "name" and token.text not in _CONSTANTS:
            self._fail(f'expected a value; write text in quotes: "{token.text}"')
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
        moment = try_parse_moment(token.text)
        if moment is None:
            self._fail(f"{token.text} is not a time; examples: {TIME_EXAMPLES}", token)
        return moment

    def _parse_number(self, token: _Token) -> int:
        text = token.text.replace("_", "")
        if text.lower().lstrip("+-").startswith("0x"):
            return int(text, 16)
        digits = text.rstrip("TGMKki")
        whole, _, part = digits.partition(".")
        scale = _SCALES[text[len(digits) :]]
        if part and int(part) * scale % 10 ** len(part):
            self._fail(f"{token.text} is not a whole number", token)
        number = int(whole) * scale
        fraction = int(part) * scale // 10 ** len(part) if part else 0
        return number - fraction if whole.startswith("-") else number + fraction

    def _parse_string(self, token: _Token) -> str | bytes:
        prefix = token.text[0] if token.text[0] in "bx" else ""
        body = token.text[len(prefix) + 1 : -1]
        start = token.at + len(prefix) + 1
        if prefix == "x":
            try:
                return bytes.fromhex(body)
            except ValueError:
                self._fail("x string must have two hex digits for each byte", token)
        text = self._unescape(body, start)
        if not prefix:
            return text
        try:
            return text.encode("latin-1")
        except UnicodeEncodeError as error:
            reason = "b string must have characters up to \\xff only"
            raise ExpressionError(reason, self._text, start + error.start) from error

    def _unescape(self, body: str, start: int) -> str:
        characters, position = [], 0
        while position < len(body):
            if body[position] != "\\":
                characters.append(body[position])
                position += 1
                continue
            letter = body[position + 1]
            size = {"x": 2, "u": 4, "U": 8}.get(letter, 0)
            digits = body[position + 2 : position + 2 + size]
            if letter in _ESCAPES:
                characters.append(_ESCAPES[letter])
            elif size and re.fullmatch(rf"[0-9a-fA-F]{{{size}}}", digits, re.ASCII):
                if int(digits, 16) > 0x10FFFF:
                    reason = f"\\{letter}{digits} is above the last character, \\U0010ffff"
                    raise ExpressionError(reason, self._text, start + position)
                characters.append(chr(int(digits, 16)))
            else:
                # Patterns have their own escapes, which remain unchanged.
                characters.append("\\" + letter)
                size = 0
            position += 2 + size
        return "".join(characters)
