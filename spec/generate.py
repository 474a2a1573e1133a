"""Write spec/events.md and spec/journal.ksy from the declarations of the events.

``python spec/generate.py`` writes both files; ``--check`` only reports whether they are stale. The
parts of the Kaitai description outside events (segment headers, block headers, columns) are written
by hand in ``CONTAINER``, because they are not declared in constructs.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterable
from enum import IntEnum
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, get_args

import construct as cs

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from journal.events import BY_TAG, FAMILIES  # noqa: E402
from journal.events.definition import Event, Role, Rule  # noqa: E402
from journal.events.wire_types import (  # noqa: E402
    DURATION,
    FLAG,
    GUEST_PATH,
    HOST_PATH,
    IP_ADDRESS,
    IPV4,
    IPV6,
    LIST_COUNT_MAX,
    Enumerated,
    ListOf,
    OptionalOf,
    RecordOf,
    TupleOf,
)
from journal.format.frame import APPLICATION_TAG_MIN, PAYLOAD_SIZE_MAX, TAG_MAX  # noqa: E402

Lines = list[str]


class Wire(NamedTuple):
    """A wire type in the spec: its name, its minimum size, and its lines in Kaitai."""

    name: str
    size_min: int
    is_variable: bool
    kaitai: Lines


NUMBERS = {"B": "u8", "H": "u16", "L": "u32", "Q": "u64", "l": "i32", "q": "i64"}
KAITAI_NUMBERS = {"B": "u1", "H": "u2", "L": "u4", "Q": "u8", "l": "s4", "q": "s8"}
LEAVES: list[tuple[cs.Construct, Wire]] = [
    (FLAG, Wire("flag", 1, False, ["type: u1", "valid:", "  any-of: [0, 1]"])),
    (GUEST_PATH, Wire("path", 4, True, ["type: blob"])),
    (HOST_PATH, Wire("host path", 4, True, ["type: blob"])),
    (DURATION, Wire("duration", 12, False, ["type: duration"])),
    (IPV4, Wire("ipv4", 4, False, ["size: 4"])),
    (IPV6, Wire("ipv6", 16, False, ["size: 16"])),
    (IP_ADDRESS, Wire("ip", 5, True, ["type: ip"])),
]


class Types:
    """Types of fields other than the built-in types, collected while fields are described."""

    def __init__(self) -> None:
        self.enums: dict[str, type[IntEnum]] = {}
        self.records: dict[str, dict[str, Wire]] = {}
        self.kaitai: dict[str, Lines] = {}

    def wire(self, con: cs.Construct) -> Wire:
        """Return the description of the construct ``con``."""
        for leaf, wire in LEAVES:
            if con is leaf:
                return wire
        for shape, describe in self.shapes():
            if isinstance(con, shape):
                return describe(con)
        raise TypeError(f"spec/generate.py has no description of the construct {con}")

    def shapes(self) -> list[tuple[type[cs.Construct], Callable[[Any], Wire]]]:
        """Return the function that describes each class of construct. The first match applies."""
        return [
            (Enumerated, self.member),
            (RecordOf, self.record),
            (TupleOf, self.row),
            (OptionalOf, self.maybe),
            (ListOf, self.listed),
            (cs.FormatField, number),
            (cs.Bytes, raw),
            (cs.StringEncoded, lambda con: Wire("text", 4, True, ["type: text"])),
            (cs.Prefixed, lambda con: Wire("blob", 4, True, ["type: blob"])),
        ]

    def member(self, con: Enumerated) -> Wire:
        """Describe a number that is a member of an enumeration."""
        inner, name = number(con.subcon), con.members.__name__
        self.enums[name] = con.members
        lines = [*inner.kaitai, f"enum: {snake(name)}", "valid:", "  in-enum: true"]
        return Wire(f"{inner.name} {link(name)}", *size_of([inner]), lines)

    def record(self, con: RecordOf) -> Wire:
        """Describe consecutive fields that form one object."""
        fields = {name: self.wire(sub) for name, sub in con.fields.items()}
        name = con.kind.__name__
        self.records[name] = fields
        self.kaitai[snake(name)] = sequence(fields.items())
        return Wire(link(name), *size_of(fields.values()), [f"type: {snake(name)}"])

    def row(self, con: TupleOf) -> Wire:
        """Describe consecutive values without names."""
        parts = [self.wire(sub) for sub in con.values]
        words = "_".join(snake(part.name) for part in parts)
        self.kaitai[words] = sequence((f"value{k}", part) for k, part in enumerate(parts))
        name = f"({', '.join(part.name for part in parts)})"
        return Wire(name, *size_of(parts), [f"type: {words}"])

    def maybe(self, con: OptionalOf) -> Wire:
        """Describe a value that may be absent."""
        inner = self.wire(con.subcon)
        words = f"maybe_{snake(bare(inner.name))}"
        present = Wire("flag", 1, False, LEAVES[0][1].kaitai)
        value = inner._replace(kaitai=[*inner.kaitai, "if: present == 1"])
        self.kaitai[words] = sequence([("present", present), ("value", value)])
        return Wire(f"maybe {inner.name}", 1, True, [f"type: {words}"])

    def listed(self, con: ListOf) -> Wire:
        """Describe a count and that many values."""
        inner = self.wire(con.subcon)
        words = f"list_{snake(bare(inner.name))}"
        count = Wire("u32", 4, False, ["type: u4", "valid:", f"  max: {LIST_COUNT_MAX}"])
        items = inner._replace(kaitai=[*inner.kaitai, "repeat: expr", "repeat-expr: count"])
        self.kaitai[words] = sequence([("count", count), ("items", items)])
        return Wire(f"list of {inner.name}", 4, True, [f"type: {words}"])


def number(con: cs.FormatField) -> Wire:
    """Describe a number of fixed size."""
    code = con.fmtstr[-1]
    return Wire(NUMBERS[code], con.sizeof(), False, [f"type: {KAITAI_NUMBERS[code]}"])


def raw(con: cs.Bytes) -> Wire:
    """Describe bytes of a fixed size."""
    return Wire(f"bytes {con.length}", con.length, False, [f"size: {con.length}"])


def size_of(wires: Iterable[Wire]) -> tuple[int, bool]:
    """Return the minimum size of consecutive fields, and whether they may be larger."""
    fields = list(wires)
    return sum(wire.size_min for wire in fields), any(wire.is_variable for wire in fields)


def format_size(size_min: int, is_variable: bool) -> str:
    """Return the text of a size in bytes."""
    return f"at least {size_min}" if is_variable else str(size_min)


def sequence(fields: Iterable[tuple[str, Wire]]) -> Lines:
    """Return the body of a Kaitai type that consists of ``fields``."""
    lines = []
    for name, wire in fields:
        lines += [f"- id: {name}", *(f"  {line}" for line in wire.kaitai)]
    return ["seq:", *indented(lines)] if lines else ["seq: []"]


def snake(name: str) -> str:
    """Convert ``CamelCase`` or words to ``snake_case``."""
    return re.sub(r"\W+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)).strip("_").lower()


def link(name: str) -> str:
    """Return a link to the heading of an enumeration or a record."""
    return f"[{name}](#{name.lower()})"


def bare(name: str) -> str:
    """Return the name of a type without its link."""
    return re.sub(r"\[(\w+)\]\(#\w+\)", r"\1", name)


def indented(lines: Iterable[str], by: int = 2) -> Lines:
    """Return ``lines`` indented by ``by`` spaces."""
    return [" " * by + line if line else line for line in lines]


def doc_of(thing: object) -> str:
    """Return a docstring as Markdown: single backquotes, no indentation.

    Raises TypeError if there is none.
    """
    text = getattr(thing, "__doc__", None)
    if not text:
        name = getattr(thing, "__name__", repr(thing))
        raise TypeError(f"{name} has no docstring; the specification needs one")
    return inspect.cleandoc(text).replace("``", "`")


def rule_of(cls: type[Event]) -> str:
    """Return the declaration of an event's rule, without default values."""
    values = [getattr(cls.rule, name) for name in type(cls.rule).__dataclass_fields__]
    words = [", ".join(value) if isinstance(value, tuple) else value for value in values]
    return f"{type(cls.rule).__name__}({', '.join(part for part in words if part)})"


def kinds_of(family: ModuleType) -> list[type[Event]]:
    """Return the event classes of a family, by tag."""
    return [cls for cls in BY_TAG.values() if cls.__module__ == family.__name__]


def markdown() -> str:
    """Return the text of spec/events.md."""
    types = Types()
    sections: Lines = []
    for family in FAMILIES:
        sections += [f"## {title(family)}", "", doc_of(family), ""]
        for cls in kinds_of(family):
            sections += kind_section(cls, types)
    roles = ["## Roles", "", doc_of(Role), ""]
    lines = [*INTRODUCTION, *roles, *rules_table(), *kinds_table(), *sections]
    lines += enum_sections(types)
    return "\n".join([*lines, *record_sections(types)]).rstrip("\n") + "\n"


def title(family: ModuleType) -> str:
    """Return the heading of a family."""
    return family.__name__.rpartition(".")[2].capitalize()


def rules_table() -> Lines:
    """Return the table of compaction rules and their meanings."""
    lines = ["## Rules of compaction", "", "| rule | meaning |", "|---|---|"]
    rules = get_args(Rule)
    lines += [f"| {rule.__name__} | {' '.join(doc_of(rule).split())} |" for rule in rules]
    return [*lines, ""]


def kinds_table() -> Lines:
    """Return the table of all kinds, by family."""
    lines = ["## All kinds", "", "| tag | kind | family | group | role | rule |"]
    lines.append("|---|---|---|---|---|---|")
    for family in FAMILIES:
        for cls in kinds_of(family):
            texts = (link(cls.__name__), title(family), cls.group.value, cls.role.value)
            lines.append(f"| {cls.tag} | {' | '.join(texts)} | {rule_of(cls)} |")
    return [*lines, ""]


def kind_section(cls: type[Event], types: Types) -> Lines:
    """Return the section of one kind."""
    lines = [f"### {cls.__name__}", ""]
    classes = f"group {cls.group.value}, role {cls.role.value}, rule {rule_of(cls)}"
    lines += [f"Tag {cls.tag}, {classes}.", "", doc_of(cls), ""]
    wires = [(named.name, types.wire(named.subcon)) for named in cls.layout.subcons]
    if not wires:
        return [*lines, "No fields; the payload is empty.", ""]
    lines += ["| field | type | bytes |", "|---|---|---|"]
    lines += [
        f"| {name} | {wire.name} | {format_size(wire.size_min, wire.is_variable)} |"
        for name, wire in wires
    ]
    return [*lines, "", f"Payload: {format_size(*size_of(wire for _, wire in wires))} bytes.", ""]


def enum_sections(types: Types) -> Lines:
    """Return the sections of enumerations that fields use."""
    lines = ["## Enumerations", "", "Any other value makes the event malformed.", ""]
    for name, members in sorted(types.enums.items()):
        lines += [f"### {name}", "", doc_of(members), "", "| value | name |", "|---|---|"]
        lines += [f"| {int(member)} | {member.name} |" for member in members]
        lines.append("")
    return lines


def record_sections(types: Types) -> Lines:
    """Return the sections of records that fields use."""
    lines = ["## Records", ""]
    for name, fields in sorted(types.records.items()):
        lines += [f"### {name}", "", "| field | type | bytes |", "|---|---|---|"]
        lines += [
            f"| {field} | {wire.name} | {format_size(wire.size_min, wire.is_variable)} |"
            for field, wire in fields.items()
        ]
        lines.append("")
    return lines


def kaitai() -> str:
    """Return the text of spec/journal.ksy."""
    types = Types()
    cases, kinds = [], []
    for cls in BY_TAG.values():
        name = f"event_{snake(cls.__name__)}"
        cases.append(f"{cls.tag}: {name}")
        wires = [(named.name, types.wire(named.subcon)) for named in cls.layout.subcons]
        kinds += [f"{name}:", "  doc: |", *indented(doc_of(cls).split("\n"), 4)]
        kinds += indented(sequence(wires))
    helpers: Lines = []
    for name, body in sorted(types.kaitai.items()):
        helpers += [f"{name}:", *indented(body)]
    enums: Lines = []
    for name, members in sorted(types.enums.items()):
        enums.append(f"{snake(name)}:")
        enums += [f"  {int(member)}: {member.name.lower()}" for member in members]
    parts = [(cases, 12), (kinds + helpers, 2), (enums, 2)]
    before_cases, before_types, before_enums, _ = CONTAINER.split("# GENERATED\n")
    texts = ["\n".join(indented(lines, by)) + "\n" for lines, by in parts]
    return before_cases + texts[0] + before_types + texts[1] + before_enums + texts[2]


def main() -> int:
    """Write or check both files. Return 1 if ``--check`` finds a stale file, else 0."""
    is_stale = False
    for name, text in (("events.md", markdown()), ("journal.ksy", kaitai())):
        path = ROOT / "spec" / name
        if "--check" not in sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            is_stale = True
            print(f"spec/{name} is stale: run python spec/generate.py", file=sys.stderr)
    return int(is_stale)


INTRODUCTION = f"""\
# Events

Generated by `python spec/generate.py` from `journal/events/`; do not edit.

An event is a tag, which is stored in the column of tags of its block, and a payload: its
consecutive fields, without padding. `format.md` describes how blocks store payloads.

| type | on the wire |
|---|---|
| u8 u16 u32 u64 i32 i64 | little-endian, two's complement where signed |
| flag | a u8 that is 0 or 1 |
| u8 *Enumeration* | a u8 that is one of the members |
| bytes *n* | *n* bytes |
| blob | a u32 size n, then n bytes |
| text | a blob of UTF-8 bytes |
| path | a blob: a path of the guest, UTF-8 as a rule, but a host directory may have other names |
| host path | a blob: a path of the host in its own encoding, not necessarily UTF-8 |
| duration | whole seconds as a u64, then nanoseconds below a second as a u32 |
| ipv4, ipv6 | 4 or 16 octets in network order |
| ip | a u8 that is 4 or 16, then that many octets in network order |
| maybe *type* | a flag, then the value if the flag is 1 |
| list of *type* | a u32 count n, then n values |
| (*type*, ...) | the consecutive values |

A payload has at most {PAYLOAD_SIZE_MAX} bytes, a list at most {LIST_COUNT_MAX} values. Each value
has a single encoding. A payload is malformed if it ends inside a field, has bytes left over, or has
a value that its type does not allow. An unknown tag is not an error in the journal: a program that
does not need the meaning of the event copies its payload unchanged.
Tags {APPLICATION_TAG_MIN} to {TAG_MAX} are reserved for applications: no version describes them.
""".split("\n")

CONTAINER = """\
# Generated by `python spec/generate.py` from the declarations in journal/events/; do not edit.
meta:
  id: journal
  title: Journal of a WebAssembly process
  file-extension: journal
  license: Apache-2.0
  ks-version: 0.11
  endian: le
  bit-endian: le
doc: |
  A journal without damage: consecutive segments, each a header and its blocks. format.md describes
  the bytes that a crash may leave between blocks, how a reader skips them, and the hashes, which a
  description of the layout cannot check. Payloads of blocks with codec zstd or with a mask are not
  decoded here.
seq:
  - {id: parts, type: part, repeat: eos}
types:
  part:
    doc: A segment header or a block, distinguished by the second half of the magic.
    seq:
      - {id: signature, contents: [0x89, JNL]}
      - {id: kind, type: u4, enum: part_kind}
      - id: body
        type:
          switch-on: kind
          cases:
            part_kind::segment: segment_header
            part_kind::block: block
  segment_header:
    doc: The header before the blocks of a segment; 128 bytes with the magic.
    seq:
      - {id: major, type: u2}
      - {id: minor, type: u2}
      - {id: header_size, type: u4, valid: 128}
      - {id: incompatible_features, type: u4, doc: 'A reader refuses unknown bits. Bit 0: sealed.'}
      - {id: compatible_features, type: u4}
      - {id: salt, type: u8, doc: Seeds the hashes of the segment.}
      - {id: journal_id, size: 16}
      - {id: created, type: u8, doc: Microseconds since the epoch.}
      - {id: first_seq, type: u8}
      - {id: previous_end, type: u8, doc: End of the continued block; 0 without one.}
      - {id: previous_hash, type: u8}
      - {id: reserved, size: 40}
      - {id: header_hash, type: u8, doc: Hash of the 120 bytes before it.}
  block:
    doc: A header of 112 bytes with the magic, a payload, and columns with an entry for each event.
    seq:
      - {id: codec, type: u1, enum: codec}
      - {id: has_times, type: b1, doc: Bit 0 of the flags.}
      - {id: has_seqs, type: b1, doc: Bit 1 of the flags.}
      - {id: has_equal_sizes, type: b1, doc: Bit 2 of the flags.}
      - {id: is_sealed, type: b1, doc: 'Bit 3 of the flags: payload and columns are encrypted.'}
      - {id: flags_reserved, type: b4}
      - {id: reserved, type: u2}
      - {id: count, type: u4, valid: {max: 65536}}
      - {id: payload_size, type: u4, doc: Stored size.}
      - {id: payload_raw_size, type: u4}
      - id: columns_size
        type: u4
        doc: Includes the zeros that pad the block to a multiple of 8 bytes.
      - id: mask
        type: u4
        doc: >-
          If not 0, the stored payload is XORed with these 4 bytes, repeated. In a sealed block, the
          last value of the column seqs.
      - {id: first_seq, type: u8}
      - {id: tag_bitmap, type: u8, doc: Bit (tag & 63) is set for the tag of each event.}
      - {id: time_first, type: u8, doc: Microseconds since the epoch.}
      - {id: time_last, type: u8}
      - {id: offset, type: u8, doc: From the start of the segment.}
      - {id: previous_end, type: u8}
      - {id: previous_hash, type: u8}
      - id: durable_upto
        type: u8
        doc: All bytes before this offset of the segment were durable when the block was written.
      - {id: body_hash, type: u8, doc: Hash of the stored payload and the columns.}
      - {id: header_hash, type: u8, doc: Hash of the 104 bytes before it.}
      - {id: payload, type: stored, size: payload_size}
      - id: columns
        type: 'columns(count, has_times, has_seqs, has_equal_sizes)'
        size: columns_size
        if: not is_sealed
      - {id: sealed_columns, size: columns_size, if: is_sealed}
    instances:
      events:
        type: event(_index)
        repeat: expr
        repeat-expr: count
        if: codec == codec::raw and mask == 0 and not is_sealed
  stored:
    doc: The concatenated payloads of a block's events.
    seq:
      - {id: data, size-eos: true}
  columns:
    params:
      - {id: count, type: u4}
      - {id: has_times, type: bool}
      - {id: has_seqs, type: bool}
      - {id: has_equal_sizes, type: bool}
    seq:
      - id: ends
        type: u4
        repeat: expr
        repeat-expr: count
        if: not has_equal_sizes
        doc: End of each event's payload in the uncompressed payload of the block.
      - {id: tags, type: u1, repeat: expr, repeat-expr: count}
      - id: times
        type: u4
        repeat: expr
        repeat-expr: count
        if: has_times
        doc: Microseconds after time_first.
      - id: seqs
        type: u4
        repeat: expr
        repeat-expr: count
        if: has_seqs
        doc: Sequence number of each event minus first_seq; consecutive without the column.
      - {id: padding, size-eos: true}
  event:
    doc: One event of an uncompressed block; the body is not decoded if the tag is unknown.
    params:
      - {id: index, type: u4}
    instances:
      equal_size: {value: '_parent.payload_raw_size / _parent.count'}
      start:
        value: >-
          _parent.has_equal_sizes
          ? equal_size * index
          : (index == 0 ? 0 : _parent.columns.ends[index - 1])
      end:
        value: >-
          _parent.has_equal_sizes ? equal_size * (index + 1) : _parent.columns.ends[index]
      tag: {value: '_parent.columns.tags[index]'}
      body:
        io: _parent.payload._io
        pos: start
        size: end - start
        type:
          switch-on: tag
          cases:
# GENERATED
  blob:
    seq:
      - {id: size, type: u4}
      - {id: data, size: size}
  text:
    seq:
      - {id: size, type: u4}
      - {id: value, type: str, size: size, encoding: UTF-8}
  duration:
    seq:
      - {id: seconds, type: u8}
      - {id: nanoseconds, type: u4, valid: {max: 999999999}}
  ip:
    seq:
      - {id: size, type: u1, valid: {any-of: [4, 16]}}
      - {id: octets, size: size}
# GENERATED
enums:
  part_kind:
    0x0a474553: segment
    0x0a4b4c42: block
  codec:
    0: raw
    1: zstd
# GENERATED
"""


if __name__ == "__main__":
    sys.exit(main())
