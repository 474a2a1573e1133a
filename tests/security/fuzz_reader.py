"""Fuzzer of all readers, and of writers that continue a damaged journal.

It changes bytes and recomputes the hashes, or changes any bytes.

``python -m tests.security.fuzz_reader SECONDS [SEED]`` mutates journals by itself.
``python -m tests.security.fuzz_reader --atheris FOLDER [libFuzzer's options]`` needs atheris, which
guides the mutations by coverage.
"""

import random
import re
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zstandard import ZstdError

from journal.log import RecoveryMode
from tests.support.forged_journals import block, directories, hash_of, lay, segment_header, shapes
from tests.support.plain_reader import (
    BLOCK,
    BLOCK_SIZE,
    SEGMENT,
    SEGMENT_MAGIC,
    SEGMENT_SIZE,
    Lying,
)
from tests.support.plain_reader import segment_header as sound_header
from tests.support.reader_fuzz_calls import continue_writing, query_reader
from tests.support.reader_oracle import expected, outcome

FIXTURES = Path(__file__).parents[2] / "fixtures" / "damage"
"""One small journal takes no longer, however it is made."""
MEMORY_SIZE_MAX = 1 << 31
"""Memory that a fuzzing process may allocate, in bytes."""
VALUES = (0, 1, 2, 7, 8, 111, 112, 127, 128, 255, 256, 1 << 16, 1 << 24, 1 << 31, (1 << 32) - 1)
VALUES_MORE = (1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
SIZES = {"codec": 8, "flags": 8, "reserved": 16}
WORDS = ("count", "payload_size", "payload_raw_size", "columns_size", "mask")
SEGMENT_SIZES = {"major": 16, "minor": 16, "header_size": 32, "incompatible": 32, "compatible": 32}
Fields = dict[str, Any]
Files = list[bytes]


@dataclass
class Part:
    """One block: its fields, its body, and the hashes to leave wrong when it is written."""

    fields: Fields
    body: bytes
    moved: bool = True
    """Adapt its offset and its link to its position in the file."""
    sound: bool = True
    gap: int = 0


@dataclass
class Segment:
    """A segment header and the blocks after it."""

    fields: Fields
    parts: list[Part] = field(default_factory=list)
    rest: bytes = b""

    def build(self) -> bytes:
        """Return the bytes, with all hashes recomputed."""
        fields = {name: value for name, value in self.fields.items() if name != "salt"}
        data = segment_header(self.fields["salt"], **fields)
        link = (SEGMENT_SIZE, hash_of(data))
        for part in self.parts:
            data += bytes(-len(data) % 8) + b"\xa5" * part.gap
            fields = part.fields
            if part.moved:
                place = {"offset": len(data), "previous_end": link[0], "previous_hash": link[1]}
                fields = fields | place
            made = block(self.fields["salt"], part.body, **fields)
            if not part.sound:
                made = made[:-1] + bytes([made[-1] ^ 1])
            data += made
            link = (len(data), hash_of(made[:BLOCK_SIZE]))
        return data + self.rest


def seeds() -> list[Files]:
    """Return the journals from which all mutants are made."""
    fixtures = [[file.read_bytes()] for file in sorted(FIXTURES.glob("*.journal"))]
    return [*([data] for data in shapes().values()), *directories().values(), *fixtures]


def parsed(data: bytes) -> list[Segment]:
    """Parse a file into segments, as far as its headers are sound."""
    segments: list[Segment] = []
    at, start, salt = 0, 0, 0
    while at < len(data):
        if data.startswith(b"\x89JNLSEG\n", at) and len(data) >= at + SEGMENT_SIZE:
            raw = SEGMENT.parse(data[at : at + SEGMENT_SIZE])
            segments.append(Segment(_plain(raw, ("magic", "hash"))))
            start, salt = at, raw.salt
            at += SEGMENT_SIZE
        elif segments and data.startswith(b"\x89JNLBLK\n", at) and len(data) >= at + BLOCK_SIZE:
            raw = BLOCK.parse(data[at : at + BLOCK_SIZE])
            end = at + BLOCK_SIZE + raw.payload_size + raw.columns_size
            fields = _plain(raw, ("magic", "hash", "body_hash"))
            segments[-1].parts.append(Part(fields, data[at + BLOCK_SIZE : end]))
            at = min(end, len(data))
        else:
            at += 1
    assert start >= 0
    assert salt >= 0
    return segments


def _plain(raw: Any, without: tuple[str, ...]) -> Fields:
    return {k: v for k, v in raw.items() if not k.startswith("_") and k not in without}


class Mutator:
    """Makes journals by mutation of journals."""

    def __init__(self, corpus: list[Files], rng: random.Random) -> None:
        self.corpus, self.rng = corpus, rng

    def journal(self) -> Files:
        """Return the files of one more journal."""
        rng = self.rng
        files = list(rng.choice(self.corpus))
        for _ in range(rng.choice((1, 1, 2, 4))):
            index = rng.randrange(len(files))
            files[index] = self.mutated(files[index])
        if len(files) > 1 and rng.random() < 0.1:
            rng.shuffle(files)
        if rng.random() < 0.05:
            files.insert(rng.randrange(len(files) + 1), rng.choice(rng.choice(self.corpus)))
        return files

    def mutated(self, data: bytes) -> bytes:
        """Return a mutated file: content with sound hashes, or changed bytes."""
        rng = self.rng
        segments = parsed(data)
        if not segments or rng.random() < 0.25:
            return self._bytes(data)
        segment = rng.choice(segments)
        if segment.parts and rng.random() < 0.9:
            change = rng.choice((self._field, self._field, self._body, self._order, self._link))
            change(segment)
        else:
            self._header(segment)
        data = b"".join(segment.build() for segment in segments)
        return self._bytes(data) if rng.random() < 0.15 else data

    def _value(self, old: int, bits: int) -> int:
        rng = self.rng
        new = rng.choice(
            (
                rng.choice(VALUES),
                rng.choice(VALUES_MORE),
                old + rng.choice((-8, -1, 1, 8, 112, 128)),
                old ^ 1 << rng.randrange(bits),
                rng.getrandbits(bits),
            )
        )
        return new % (1 << bits)

    def _field(self, segment: Segment) -> None:
        part = self.rng.choice(segment.parts)
        name = self.rng.choice(sorted(part.fields))
        bits = SIZES.get(name, 32 if name in WORDS else 64)
        part.fields[name] = self._value(part.fields[name], bits)
        part.moved = name not in ("offset", "previous_end", "previous_hash")

    def _body(self, segment: Segment) -> None:
        part = self.rng.choice(segment.parts)
        part.body = self._bytes(part.body) if part.body else b"?" * 8

    def _order(self, segment: Segment) -> None:
        rng, parts = self.rng, segment.parts
        part = parts[rng.randrange(len(parts))]
        choice = rng.randrange(4)
        if choice == 0:
            parts.remove(part)
        elif choice == 1:
            copy = Part(dict(part.fields), part.body, rng.random() < 0.7)
            parts.insert(rng.randrange(len(parts) + 1), copy)
        elif choice == 2:
            rng.shuffle(parts)
        else:
            others = parsed(rng.choice(rng.choice(self.corpus)))
            if others and others[0].parts:
                other = rng.choice(others[0].parts)
                parts.append(Part(dict(other.fields), other.body))

    def _link(self, segment: Segment) -> None:
        """Give blocks recovery links, wrong links or wrong hashes."""
        rng = self.rng
        part = rng.choice(segment.parts)
        choice = rng.randrange(3)
        if choice == 0:
            part.gap = rng.choice((1, 8, 24, 200))
        elif choice == 1:
            part.sound = False
        else:
            other = rng.choice(segment.parts)
            names = ("previous_end", "previous_hash")
            part.fields |= {name: other.fields[name] for name in names}
            part.fields["offset"] = rng.choice(segment.parts).fields["offset"]
            part.moved = rng.random() < 0.3

    def _header(self, segment: Segment) -> None:
        names = [name for name, value in segment.fields.items() if isinstance(value, int)]
        name = self.rng.choice(names)
        bits = SEGMENT_SIZES.get(name, 64)
        segment.fields[name] = self._value(segment.fields[name], bits)

    def _bytes(self, data: bytes) -> bytes:
        rng = self.rng
        at = rng.randrange(len(data) + 1)
        size = rng.choice((1, 2, 8, 16, 100, len(data) // 2 + 1))
        patches: tuple[Callable[[], bytes], ...] = (
            lambda: data[:at],
            lambda: data[:at] + data[at + size :],
            lambda: data[:at] + rng.randbytes(size) + data[at:],
            lambda: data[:at] + rng.randbytes(size) + data[at + size :],
            lambda: data[:at] + bytes(size) + data[at + size :],
            lambda: data[:at] + data[at - size : at] + data[at:],
            lambda: data + bytes(size),
            lambda: (
                data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
                if at < len(data)
                else data
            ),
        )
        return rng.choice(patches)()


def try_one(files: Files, folder: Path, rng: random.Random) -> None:
    """Query a journal in one mode and compare the result with the plain reader."""
    path = folder / "a.journal"
    if len(files) > 1:
        lay(path, files)
    else:
        path.write_bytes(files[0])
    try:
        mode = rng.choice(list(RecoveryMode))
        query_reader(path, [mode], rng.random() < 0.8)
        if rng.random() < 0.3:
            continue_writing(path, [RecoveryMode.POINT_IN_TIME])
        check_agreement(files, path, mode)
    finally:
        (shutil.rmtree if path.is_dir() else Path.unlink)(path)


def check_agreement(files: Files, path: Path, mode: RecoveryMode) -> None:
    """Check a reader against the format, in blocks with sound columns and payloads."""
    if any(is_sealed(data, at) for data in files for at in (-1, *magics(data))):
        return  # The plain reader has no key either, and gives another reason.
    if len(files) == 1 and any(
        sound_header(files[0], at + 1) and not known(files[0], at) for at in magics(files[0])
    ):
        return  # A segment of an unknown version itself determines where reading ends.
    try:
        wanted = expected(files)[mode]
    except (Lying, ZstdError):  # A reader may meet the damage early, late, or not at all.
        return
    found = outcome(path, mode)
    if mode is RecoveryMode.SALVAGE and not found[0] and not wanted[0]:
        return  # Without any event to salvage, an error that says why is as good.
    assert found == wanted, mode


def magics(data: bytes) -> list[int]:
    """Return the offsets of segment magic bytes after the first."""
    return [match.start() for match in re.finditer(re.escape(SEGMENT_MAGIC), data[1:])]


def is_sealed(data: bytes, at: int) -> bool:
    """Return whether the segment header after ``at`` says that its blocks are encrypted."""
    return bool(sound_header(data, at + 1) and SEGMENT.parse(data[at + 1 :]).incompatible & 1)


def known(data: bytes, at: int) -> bool:
    """Return whether a sound segment header has a readable version."""
    header = SEGMENT.parse(data[at + 1 :])
    return (header.major, header.header_size, header.incompatible) == (1, SEGMENT_SIZE, 0)


def campaign(seed: int, seconds: float = 0, count: int = 0) -> int:
    """Test mutated journals for a time, but at least ``count`` of them, and return the number.

    Raises the first failure.
    """
    corpus, deadline, number = seeds(), time.monotonic() + seconds, 0
    with tempfile.TemporaryDirectory(prefix="fuzz-reader-") as folder:
        while number < count or time.monotonic() < deadline:
            rng = random.Random(f"{seed}/{number}")
            files = Mutator(corpus, rng).journal()
            try:
                try_one(files, Path(folder), rng)
            except BaseException as fault:
                fault.add_note(f"seed {seed}, number {number}: {[data.hex() for data in files]}")
                raise
            number += 1
    return number


def rebuild_journal(seed: int, number: int) -> Files:
    """Build the journal again on which a campaign failed."""
    return Mutator(seeds(), random.Random(f"{seed}/{number}")).journal()


def guided(arguments: list[str]) -> None:
    """Let atheris select the mutations by coverage."""
    from importlib import import_module

    # A process inherits the peak of its parent's memory, which libFuzzer would take for its own.
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_SIZE_MAX, MEMORY_SIZE_MAX))
    arguments = [*arguments, "-rss_limit_mb=0", f"-malloc_limit_mb={MEMORY_SIZE_MAX >> 20}"]
    atheris = import_module("atheris")
    atheris.instrument_all()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-reader-"))
    corpus = seeds()

    def mutate(data: bytes, size_max: int, seed: int) -> bytes:
        return Mutator(corpus, random.Random(seed)).mutated(bytes(data))[:size_max]

    def test_one(data: bytes) -> None:
        try_one([bytes(data)], folder, random.Random(len(data)))

    atheris.Setup(arguments, test_one, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1] == "--atheris":
        place = Path(sys.argv[2])
        place.mkdir(exist_ok=True)
        for index, (first, *_) in enumerate(seeds()):
            (place / f"seed-{index}").write_bytes(first)
        guided([sys.argv[0], *sys.argv[3:], str(place)])
    else:
        chosen = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(1 << 32)
        print(f"seed {chosen}", flush=True)
        print(f"{campaign(chosen, float(sys.argv[1]))} journals tried")
