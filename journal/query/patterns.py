"""Patterns for text and bytes, matched in time linear in the subject.

> Why not re? A backtracking matcher can take years for a pattern of ten letters. The pattern comes
from any user, and the subject from any journal.

All alternatives are followed at once: a pattern is a nondeterministic automaton, and each set of
its states becomes one deterministic state when it is first reached (K. Thompson, "Regular
expression search algorithm").
"""

from collections.abc import Iterable
from typing import NamedTuple

PATTERN_SIZE_MAX = 1 << 10
"""Maximum length of a pattern in characters."""
NFA_STATES_MAX = 1 << 11
"""Maximum number of states of a pattern's automaton. A repeated part has states for each
repetition.
"""
DEPTH_MAX = 50
"""Maximum nesting depth of groups."""
REPEATS_MAX = 1 << 9
_DFA_STATES_MAX = 1 << 10
_DFA_TRANSITIONS_MAX = 1 << 16
"""Maximum number of cached transitions between state sets. Beyond a limit, the cache is cleared."""

_CHARACTER_MAX = 0x10FFFF
_DIGIT = ((48, 57),)
_WORD = ((48, 57), (65, 90), (95, 95), (97, 122))
_SPACE = ((9, 13), (32, 32))
_CLASSES = {"d": _DIGIT, "w": _WORD, "s": _SPACE}
_CONTROLS = {"n": 10, "r": 13, "t": 9, "f": 12, "v": 11, "0": 0}
_HEX_SIZES = {"x": 2, "u": 4, "U": 8}
_BEGIN, _END, _MATCH, _SPLIT = "begin", "end", "match", "split"
_ACCEPTED = 0

Ranges = tuple[tuple[int, int], ...]


class PatternError(ValueError):
    """Invalid pattern; ``position`` is the index of the character after the error."""

    def __init__(self, reason: str, position: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.position = position


class CharacterSet(NamedTuple):
    """Single character inside the ranges, or outside of them if negated."""

    ranges: Ranges
    is_negated: bool = False

    def has(self, character: int) -> bool:
        """Return whether a character is in the set."""
        return any(low <= character <= high for low, high in self.ranges) is not self.is_negated


class NodeSequence(NamedTuple):
    """Sequence of parts."""

    parts: "tuple[PatternNode, ...]"


class Alternation(NamedTuple):
    """Alternative parts."""

    parts: "tuple[PatternNode, ...]"


class Repetition(NamedTuple):
    """Part repeated ``minimum`` to ``maximum`` times; without limit if ``maximum`` is None."""

    part: "PatternNode"
    minimum: int
    maximum: int | None


class Anchor(NamedTuple):
    """Start or end of the subject."""

    which: str


PatternNode = CharacterSet | NodeSequence | Alternation | Repetition | Anchor
_ANY = CharacterSet((), True)
_NO_SLASH = CharacterSet(((47, 47),), True)


def compile_regex(pattern: str) -> "Pattern":
    """Return a pattern for a regular expression, which may match anywhere in the subject.

    The syntax is ``. [] | () * + ? {} ^ $``, and ``\\d \\w \\s`` in ASCII. Look-around and
    back-references are not supported. Raises PatternError.
    """
    _check_size(pattern)
    return Pattern(_PatternParser(pattern).parse_regex(), is_whole=False)


def compile_glob(pattern: str) -> "Pattern":
    """Return a pattern for a shell glob, which must match the whole subject.

    ``*`` and ``?`` do not match a slash. ``**`` does, and ``**/`` matches any number of
    directories, including none. Raises PatternError.
    """
    _check_size(pattern)
    return Pattern(_PatternParser(pattern).parse_glob(), is_whole=True)


def _check_size(pattern: str) -> None:
    if len(pattern) > PATTERN_SIZE_MAX:
        reason = f"pattern must have at most {PATTERN_SIZE_MAX} characters, got {len(pattern)}"
        raise PatternError(reason, PATTERN_SIZE_MAX)


class _PatternParser:
    """Recursive-descent parser of regular expressions and globs."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def parse_regex(self) -> PatternNode:
        """Return the tree of the whole regular expression."""
        node = self._parse_alternation()
        if self._at < len(self._text):
            raise self._make_error("unexpected ), no group is open")
        return node

    def parse_glob(self) -> PatternNode:
        """Return the tree of the whole glob."""
        parts: list[PatternNode] = []
        while self._at < len(self._text):
            if self._accept("**/"):
                parts.append(
                    Repetition(
                        NodeSequence((Repetition(_ANY, 0, None), CharacterSet(((47, 47),)))), 0, 1
                    )
                )
            elif self._accept("**"):
                parts.append(Repetition(_ANY, 0, None))
            elif self._accept("*"):
                parts.append(Repetition(_NO_SLASH, 0, None))
            elif self._accept("?"):
                parts.append(_NO_SLASH)
            elif self._accept("["):
                parts.append(self._parse_set("!^"))
            else:
                self._accept("\\")
                parts.append(_single_character(self._next("a character must follow the backslash")))
        return NodeSequence(tuple(parts))

    def _parse_alternation(self) -> PatternNode:
        parts = [self._parse_sequence()]
        while self._accept("|"):
            parts.append(self._parse_sequence())
        return parts[0] if len(parts) == 1 else Alternation(tuple(parts))

    def _parse_sequence(self) -> PatternNode:
        parts: list[PatternNode] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            parts.append(self._parse_repetition(self._parse_atom()))
        return NodeSequence(tuple(parts))

    def _parse_atom(self) -> PatternNode:
        if self._accept("("):
            return self._parse_group()
        if self._accept("["):
            return self._parse_set("^")
        if self._accept("."):
            return CharacterSet(((10, 10),), True)
        if self._accept("^"):
            return Anchor(_BEGIN)
        if self._accept("$"):
            return Anchor(_END)
        if self._accept("\\"):
            return self._parse_escape()
        if self._text[self._at] in "*+?":
            raise self._make_error(f"{self._text[self._at]} has nothing to repeat")
        return _single_character(self._next(""))

    def _parse_group(self) -> PatternNode:
        if self._accept("?") and not self._accept(":"):
            raise self._make_error("unsupported group, use (...) or (?:...)")
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise self._make_error(
                f"groups are nested too deeply, at most {DEPTH_MAX} levels are allowed"
            )
        node = self._parse_alternation()
        self._depth -= 1
        if not self._accept(")"):
            raise self._make_error("group is not closed")
        return node

    def _parse_repetition(self, part: PatternNode) -> PatternNode:
        while self._at < len(self._text):
            bounds: tuple[int, int | None]
            if self._accept("*"):
                bounds = (0, None)
            elif self._accept("+"):
                bounds = (1, None)
            elif self._accept("?"):
                bounds = (0, 1)
            elif self._text[self._at] == "{" and (braces := self._parse_bounds()) is not None:
                bounds = braces
            else:
                return part
            self._accept("?")  # A lazy repetition matches the same subjects.
            part = Repetition(part, *bounds)
        return part

    def _parse_bounds(self) -> tuple[int, int | None] | None:
        """Return the bounds of ``{2,3}``, or None for a brace that is an ordinary character."""
        end = self._text.find("}", self._at)
        minimum, comma, maximum = self._text[self._at + 1 : max(end, 0)].partition(",")
        if end < 0 or not _is_number(minimum) or not (maximum == "" or _is_number(maximum)):
            return None
        self._at = end + 1
        bounds = int(minimum), (int(maximum) if maximum else None) if comma else int(minimum)
        if max(bounds[0], bounds[1] or 0) > REPEATS_MAX:
            raise self._make_error(f"too many repetitions, at most {REPEATS_MAX} are allowed")
        if bounds[1] is not None and bounds[1] < bounds[0]:
            raise self._make_error(f"minimum {bounds[0]} is above maximum {bounds[1]}")
        return bounds

    def _parse_escape(self) -> PatternNode:
        character = self._next("a character must follow the backslash")
        if character.lower() in _CLASSES and character.lower() != character:
            return CharacterSet(_CLASSES[character.lower()], True)
        if character in _CLASSES:
            return CharacterSet(_CLASSES[character])
        return _single_character(chr(self._parse_escaped_character(character)))

    def _parse_escaped_character(self, character: str) -> int:
        if character in _CONTROLS:
            return _CONTROLS[character]
        if character in _HEX_SIZES:
            digits = self._text[self._at : self._at + _HEX_SIZES[character]]
            if len(digits) < _HEX_SIZES[character] or not all(map(_is_hex, digits)):
                raise self._make_error(
                    f"{_HEX_SIZES[character]} hex digits must follow \\{character}"
                )
            self._at += len(digits)
            if int(digits, 16) > _CHARACTER_MAX:
                raise self._make_error(
                    f"\\{character}{digits} is above the last character, \\U0010ffff"
                )
            return int(digits, 16)
        if character.isascii() and character.isalnum():
            raise self._make_error(f"unknown escape \\{character}")
        return ord(character)

    def _parse_set(self, negations: str) -> PatternNode:
        negated = self._at < len(self._text) and self._text[self._at] in negations
        self._at += negated
        ranges: list[tuple[int, int]] = []
        first = True
        while first or not self._accept("]"):
            first = False
            low = self._parse_set_member()
            if isinstance(low, tuple):
                ranges += low
                continue
            high: int | Ranges = low
            if self._text[self._at : self._at + 1] == "-" and self._is_range_dash():
                self._at += 1
                high = self._parse_set_member()
            if isinstance(high, tuple) or high < low:
                raise self._make_error("range must be two characters in ascending order")
            ranges.append((low, high))
        return CharacterSet(tuple(ranges), negated)

    def _is_range_dash(self) -> bool:
        """Return whether the end of a range follows the dash at the current position."""
        return self._text[self._at + 1 : self._at + 2] not in ("]", "")

    def _parse_set_member(self) -> int | Ranges:
        character = self._next("set is not closed")
        if character != "\\":
            return ord(character)
        character = self._next("set is not closed")
        return (
            _CLASSES[character]
            if character in _CLASSES
            else self._parse_escaped_character(character)
        )

    def _accept(self, text: str) -> bool:
        if not self._text.startswith(text, self._at):
            return False
        self._at += len(text)
        return True

    def _next(self, missing: str) -> str:
        if self._at >= len(self._text):
            raise self._make_error(missing)
        self._at += 1
        return self._text[self._at - 1]

    def _make_error(self, reason: str) -> PatternError:
        return PatternError(reason, self._at)


def _single_character(character: str) -> CharacterSet:
    return CharacterSet(((ord(character), ord(character)),))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 9


def _is_hex(text: str) -> bool:
    return text in "0123456789abcdefABCDEF"


class _Automaton:
    """Nondeterministic automaton, built from its end. State 0 accepts.

    The label of a state is the item that it consumes: a character set, an anchor, or nothing for a
    split. ``successors`` has the states that follow each state.
    """

    def __init__(self) -> None:
        self.labels: list[CharacterSet | str] = [_MATCH]
        self.successors: list[tuple[int, ...]] = [()]

    def add_state(self, label: CharacterSet | str, *successors: int) -> int:
        """Add a state, and return its number."""
        if len(self.labels) >= NFA_STATES_MAX:
            raise PatternError(
                f"pattern is too large, its repetitions need more than {NFA_STATES_MAX} states",
                0,
            )
        self.labels.append(label)
        self.successors.append(successors)
        return len(self.labels) - 1

    def add_node(self, node: PatternNode, successor: int) -> int:
        """Add the states of a node before state ``successor``, and return the first of them."""
        if isinstance(node, CharacterSet):
            return self.add_state(node, successor)
        if isinstance(node, Anchor):
            return self.add_state(node.which, successor)
        if isinstance(node, Alternation):
            return self.add_state(_SPLIT, *[self.add_node(part, successor) for part in node.parts])
        if isinstance(node, NodeSequence):
            for part in reversed(node.parts):
                successor = self.add_node(part, successor)
            return successor
        return self._add_repetition(node, successor)

    def _add_repetition(self, node: Repetition, successor: int) -> int:
        if node.maximum is None:
            loop = self.add_state(_SPLIT, successor)
            self.successors[loop] = (self.add_node(node.part, loop), successor)
            successor = loop
        else:
            end = successor
            for _ in range(node.maximum - node.minimum):
                successor = self.add_state(_SPLIT, self.add_node(node.part, successor), end)
        for _ in range(node.minimum):
            successor = self.add_node(node.part, successor)
        return successor


class Pattern:
    """Compiled pattern of text, or of bytes, in which each byte is a character."""

    def __init__(self, node: PatternNode, *, is_whole: bool) -> None:
        self._is_anchored = is_whole
        self._literal = None if is_whole else _literal_text(node)
        automaton = _Automaton()
        self._first = automaton.add_node(node, 0)
        self._labels, self._successors = automaton.labels, automaton.successors
        self._clear_cache()

    def matches(self, subject: str | bytes) -> bool:
        """Return whether the pattern matches."""
        if self._literal is not None:
            if isinstance(subject, str):
                return self._literal in subject
            # Bytes hold characters up to 255 only, so other text never matches.
            return _is_latin1(self._literal) and self._literal.encode("latin-1") in subject
        characters: Iterable[int] = map(ord, subject) if isinstance(subject, str) else subject
        state = self._get_start_state(len(subject) == 0)
        for character in characters:
            if state == _ACCEPTED:
                return True
            next_state = self._steps[state].get(character)
            state = self._compute_step(state, character) if next_state is None else next_state
        return state == _ACCEPTED or self._accepts_end(state)

    def _clear_cache(self) -> None:
        self._numbers: dict[frozenset[int], int] = {}
        self._sets: list[frozenset[int]] = [frozenset()]
        self._steps: list[dict[int, int]] = [{}]
        self._count = 0

    def _get_start_state(self, is_end: bool) -> int:
        states = self._compute_closure((self._first,), is_begin=True, is_end=is_end)
        return self._intern(states)

    def _compute_step(self, state: int, character: int) -> int:
        successors = [
            self._successors[item] for item in self._sets[state] if self._accepts(item, character)
        ]
        starts = [item for group in successors for item in group]
        if not self._is_anchored:
            starts.append(self._first)
        closure = self._compute_closure(starts, is_begin=False, is_end=False)
        if self._count >= _DFA_TRANSITIONS_MAX or len(self._sets) >= _DFA_STATES_MAX:
            self._clear_cache()
            return self._intern(closure)
        next_state = self._intern(closure)
        self._steps[state][character] = next_state
        self._count += 1
        return next_state

    def _accepts(self, state: int, character: int) -> bool:
        label = self._labels[state]
        return isinstance(label, CharacterSet) and label.has(character)

    def _intern(self, states: frozenset[int]) -> int:
        if 0 in states and not self._is_anchored:
            return _ACCEPTED
        number = self._numbers.get(states)
        if number is None:
            number = self._numbers[states] = len(self._sets)
            self._sets.append(states)
            self._steps.append({})
        return number

    def _accepts_end(self, state: int) -> bool:
        states = self._sets[state]
        return 0 in self._compute_closure(states, is_begin=False, is_end=True)

    def _compute_closure(
        self, starts: Iterable[int], *, is_begin: bool, is_end: bool
    ) -> frozenset[int]:
        """Return the states that are reached without consuming a character."""
        closure: set[int] = set()
        pending = list(starts)
        while pending:
            state = pending.pop()
            if state in closure:
                continue
            closure.add(state)
            label = self._labels[state]
            if label == _SPLIT or (label == _BEGIN and is_begin) or (label == _END and is_end):
                pending += self._successors[state]
        return frozenset(closure)


def _literal_text(node: PatternNode) -> str | None:
    """Return the text that a node matches if it matches one text only, else None."""
    parts: Iterable[PatternNode] = node.parts if isinstance(node, NodeSequence) else (node,)
    characters = []
    for part in parts:
        if not isinstance(part, CharacterSet) or part.is_negated or len(part.ranges) != 1:
            return None
        low, high = part.ranges[0]
        if low != high:
            return None
        characters.append(chr(low))
    return "".join(characters)


def _is_latin1(text: str) -> bool:
    return all(ord(character) < 256 for character in text)
