"""Patterns of text and bytes, matched in time that grows with what is looked at and no faster.

> Why not re? It tries one way after the other, so that a pattern of ten letters can keep it busy
> for years; a pattern comes from whoever asks, and what it is held against from anywhere.

All ways are followed at once: a pattern is a small machine, and the set of its places after each
character is worked out when it is first met (K. Thompson, "Regular expression search algorithm").
"""

from collections.abc import Iterable
from typing import NamedTuple

PATTERN_SIZE_MAX = 1 << 10
"""Characters of a pattern."""
NFA_STATES_MAX = 1 << 11
"""Places of its machine: what is repeated so many times stands there so many times."""
DEPTH_MAX = 50
"""Groups in groups."""
REPEATS_MAX = 1 << 9
_DFA_STATES_MAX = 1 << 10
_DFA_TRANSITIONS_MAX = 1 << 16
"""What is kept of the sets and of the steps between them, before it is worked out anew."""

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
    """A pattern that is none: the reason is a sentence, ``position`` counts its characters."""

    def __init__(self, reason: str, position: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.position = position


class CharacterSet(NamedTuple):
    """One character that is in any of the ranges, or in none of them."""

    ranges: Ranges
    is_negated: bool = False

    def has(self, character: int) -> bool:
        """Whether it is one of them."""
        return any(low <= character <= high for low, high in self.ranges) is not self.is_negated


class NodeSequence(NamedTuple):
    """One part behind the other."""

    parts: "tuple[PatternNode, ...]"


class Alternation(NamedTuple):
    """Any one of the parts."""

    parts: "tuple[PatternNode, ...]"


class Repetition(NamedTuple):
    """A part ``least`` to ``most`` times, without an end where that is None."""

    part: "PatternNode"
    minimum: int
    maximum: int | None


class Anchor(NamedTuple):
    """The beginning or the end of what is looked at."""

    which: str


PatternNode = CharacterSet | NodeSequence | Alternation | Repetition | Anchor
_ANY = CharacterSet((), True)
_NO_SLASH = CharacterSet(((47, 47),), True)


def compile_regex(pattern: str) -> "Pattern":
    """Make a pattern of a regular expression, which may match anywhere.

    It has what most have: ``. [] | () * + ? {} ^ $``, and ``\\d \\w \\s`` in ASCII. It has nothing
    that looks around or back. Raises PatternError.
    """
    _check_size(pattern)
    return Pattern(_PatternParser(pattern).parse_regex(), is_whole=False)


def compile_glob(pattern: str) -> "Pattern":
    """Make a pattern of one as shells have it, which matches the whole.

    ``*`` and ``?`` do not match a slash, ``**`` does, and ``**/`` any number of directories, also
    none. Raises PatternError.
    """
    _check_size(pattern)
    return Pattern(_PatternParser(pattern).parse_glob(), is_whole=True)


def _check_size(pattern: str) -> None:
    if len(pattern) > PATTERN_SIZE_MAX:
        reason = f"a pattern has {PATTERN_SIZE_MAX} characters at most"
        raise PatternError(reason, PATTERN_SIZE_MAX)


class _PatternParser:
    """A pattern that is read from its beginning."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def parse_regex(self) -> PatternNode:
        """The whole of a regular expression."""
        found = self._parse_alternation()
        if self._at < len(self._text):
            raise self._make_error("there is no group that this closes")
        return found

    def parse_glob(self) -> PatternNode:
        """The whole of a shell's pattern."""
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
                parts.append(_single_character(self._next("it ends behind a backslash")))
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
            raise self._make_error("there is nothing to repeat")
        return _single_character(self._next(""))

    def _parse_group(self) -> PatternNode:
        if self._accept("?") and not self._accept(":"):
            raise self._make_error("of groups there are (...) and (?:...)")
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise self._make_error(f"groups stand in one another {DEPTH_MAX} deep at most")
        found = self._parse_alternation()
        self._depth -= 1
        if not self._accept(")"):
            raise self._make_error("a group is not closed")
        return found

    def _parse_repetition(self, part: PatternNode) -> PatternNode:
        while self._at < len(self._text):
            bounds: tuple[int, int | None]
            if self._accept("*"):
                bounds = (0, None)
            elif self._accept("+"):
                bounds = (1, None)
            elif self._accept("?"):
                bounds = (0, 1)
            elif self._text[self._at] == "{" and (found := self._parse_bounds()) is not None:
                bounds = found
            else:
                return part
            self._accept("?")  # to be content with less makes no difference to whether it matches
            part = Repetition(part, *bounds)
        return part

    def _parse_bounds(self) -> tuple[int, int | None] | None:
        """The numbers of ``{2,3}``; a brace that has none is a character."""
        end = self._text.find("}", self._at)
        least, comma, most = self._text[self._at + 1 : max(end, 0)].partition(",")
        if end < 0 or not _is_number(least) or not (most == "" or _is_number(most)):
            return None
        self._at = end + 1
        bounds = int(least), (int(most) if most else None) if comma else int(least)
        if max(bounds[0], bounds[1] or 0) > REPEATS_MAX:
            raise self._make_error(f"a part is repeated {REPEATS_MAX} times at most")
        if bounds[1] is not None and bounds[1] < bounds[0]:
            raise self._make_error("the least is above the most")
        return bounds

    def _parse_escape(self) -> PatternNode:
        character = self._next("it ends behind a backslash")
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
            if len(digits) < _HEX_SIZES[character] or not all(_is_hex(each) for each in digits):
                raise self._make_error(
                    f"behind \\{character} stand {_HEX_SIZES[character]} hex digits"
                )
            self._at += len(digits)
            if int(digits, 16) > _CHARACTER_MAX:
                raise self._make_error("there is no such character")
            return int(digits, 16)
        if character.isascii() and character.isalnum():
            raise self._make_error(f"\\{character} is not known")
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
                raise self._make_error("a range goes from a character to one that is not before it")
            ranges.append((low, high))
        return CharacterSet(tuple(ranges), negated)

    def _is_range_dash(self) -> bool:
        """Whether a dash has something behind it that ends a range."""
        return self._text[self._at + 1 : self._at + 2] not in ("]", "")

    def _parse_set_member(self) -> int | Ranges:
        character = self._next("a set is not closed")
        if character != "\\":
            return ord(character)
        character = self._next("a set is not closed")
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
    """The places of a pattern, written from its end: each is what it takes, and where it leads."""

    def __init__(self) -> None:
        self.labels: list[CharacterSet | str] = [_MATCH]
        self.successors: list[tuple[int, ...]] = [()]

    def add_state(self, takes: CharacterSet | str, *leads: int) -> int:
        """Add a place; give its number."""
        if len(self.labels) >= NFA_STATES_MAX:
            raise PatternError("it repeats too much too often", 0)
        self.labels.append(takes)
        self.successors.append(leads)
        return len(self.labels) - 1

    def add_node(self, node: PatternNode, follows: int) -> int:
        """Add the places of a part that ``follows`` stands behind; give the first of them."""
        if isinstance(node, CharacterSet):
            return self.add_state(node, follows)
        if isinstance(node, Anchor):
            return self.add_state(node.which, follows)
        if isinstance(node, Alternation):
            return self.add_state(_SPLIT, *[self.add_node(part, follows) for part in node.parts])
        if isinstance(node, NodeSequence):
            for part in reversed(node.parts):
                follows = self.add_node(part, follows)
            return follows
        return self._add_repetition(node, follows)

    def _add_repetition(self, node: Repetition, follows: int) -> int:
        if node.maximum is None:
            loop = self.add_state(_SPLIT, follows)
            self.successors[loop] = (self.add_node(node.part, loop), follows)
            follows = loop
        else:
            behind = follows
            for _ in range(node.maximum - node.minimum):
                follows = self.add_state(_SPLIT, self.add_node(node.part, follows), behind)
        for _ in range(node.minimum):
            follows = self.add_node(node.part, follows)
        return follows


class Pattern:
    """A pattern, ready to be held against text or bytes, a byte being a character."""

    def __init__(self, node: PatternNode, *, is_whole: bool) -> None:
        self._is_anchored = is_whole
        self._literal = None if is_whole else _literal_text(node)
        machine = _Automaton()
        self._first = machine.add_node(node, 0)
        self._labels, self._successors = machine.labels, machine.successors
        self._clear_cache()

    def matches(self, subject: str | bytes) -> bool:
        """Whether it matches the whole, if it is a shell's, or else anything in it."""
        if self._literal is not None:
            if isinstance(subject, str):
                return self._literal in subject
            # a byte is a character: what has others is in no bytes
            return _is_latin1(self._literal) and self._literal.encode("latin-1") in subject
        characters: Iterable[int] = map(ord, subject) if isinstance(subject, str) else subject
        state = self._get_start_state(len(subject) == 0)
        for character in characters:
            if state == _ACCEPTED:
                return True
            following = self._steps[state].get(character)
            state = self._compute_step(state, character) if following is None else following
        return state == _ACCEPTED or self._accepts_end(state)

    def _clear_cache(self) -> None:
        self._numbers: dict[frozenset[int], int] = {}
        self._sets: list[frozenset[int]] = [frozenset()]
        self._steps: list[dict[int, int]] = [{}]
        self._count = 0

    def _get_start_state(self, is_end: bool) -> int:
        found = self._compute_closure((self._first,), is_begin=True, is_end=is_end)
        return self._intern(found)

    def _compute_step(self, state: int, character: int) -> int:
        places = self._sets[state]
        leads = [self._successors[place] for place in places if self._accepts(place, character)]
        starts = [place for each in leads for place in each]
        if not self._is_anchored:
            starts.append(self._first)
        reached = self._compute_closure(starts, is_begin=False, is_end=False)
        if self._count >= _DFA_TRANSITIONS_MAX or len(self._sets) >= _DFA_STATES_MAX:
            self._clear_cache()
            return self._intern(reached)
        following = self._intern(reached)
        self._steps[state][character] = following
        self._count += 1
        return following

    def _accepts(self, place: int, character: int) -> bool:
        takes = self._labels[place]
        return isinstance(takes, CharacterSet) and takes.has(character)

    def _intern(self, places: frozenset[int]) -> int:
        if 0 in places and not self._is_anchored:
            return _ACCEPTED
        number = self._numbers.get(places)
        if number is None:
            number = self._numbers[places] = len(self._sets)
            self._sets.append(places)
            self._steps.append({})
        return number

    def _accepts_end(self, state: int) -> bool:
        places = self._sets[state]
        return 0 in self._compute_closure(places, is_begin=False, is_end=True)

    def _compute_closure(
        self, starts: Iterable[int], *, is_begin: bool, is_end: bool
    ) -> frozenset[int]:
        """The places that are reached without taking a character."""
        found: set[int] = set()
        left = list(starts)
        while left:
            place = left.pop()
            if place in found:
                continue
            found.add(place)
            takes = self._labels[place]
            if takes == _SPLIT or (takes == _BEGIN and is_begin) or (takes == _END and is_end):
                left += self._successors[place]
        return frozenset(found)


def _literal_text(node: PatternNode) -> str | None:
    """The text that a part is, if it is nothing else."""
    parts: Iterable[PatternNode] = node.parts if isinstance(node, NodeSequence) else (node,)
    found = []
    for part in parts:
        if not isinstance(part, CharacterSet) or part.is_negated or len(part.ranges) != 1:
            return None
        low, high = part.ranges[0]
        if low != high:
            return None
        found.append(chr(low))
    return "".join(found)


def _is_latin1(text: str) -> bool:
    return all(ord(character) < 256 for character in text)
