"""Typical program: mostly its own work, and some host calls.

Each round computes for about ten milliseconds with loops, dicts, strings, json and re, reads clocks
and random numbers, prints, writes a log and reads the log back. Its output does not depend on any
input, so that two hosts must produce the same output. CPython runs this program as a guest.
"""

import json
import os
import random
import re
import sys
import time
import zlib
from pathlib import Path

ROUNDS = 60
LOG = Path("/workload.log")
WORD = re.compile(r"(\w)(\d+)=(\d+)")


def fibonacci(n: int) -> int:
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


def words(number: int) -> str:
    counts: dict[str, int] = {}
    for i in range(4000):
        word = f"w{(i * 7919 + number * 104729) % 997}"
        counts[word] = counts.get(word, 0) + 1
    found = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ",".join(f"{word}={count}" for word, count in found)


def walk(number: int) -> str:
    x = y = 0
    for i in range(12000):
        x = (x + i * number) % 65521
        y = (y + x) % 65521
    return f"{x} {y}"


def matches(text: str) -> int:
    return sum(int(count) for _, _, count in WORD.findall(text))


def ask() -> None:
    last = time.monotonic()
    for _ in range(50):
        now = time.monotonic()
        assert now >= last, "the clock went back"
        last = now
        assert 0 <= random.random() < 1
        assert len(os.urandom(8)) == 8
        time.time()


def keep(number: int) -> int:
    with LOG.open("a") as log:
        for i in range(20):
            log.write(f"round {number} record {i} {'x' * 40}\n")
            log.flush()
    return len(LOG.read_bytes())


def main() -> None:
    checksum = 0
    for number in range(ROUNDS):
        text = words(number)
        shown = [fibonacci(17), text[:200], walk(number), matches(text)]
        shown.append(len(json.dumps(json.loads(json.dumps({"number": number, "shown": shown})))))
        ask()
        shown.append(keep(number))
        for one in shown:
            checksum = zlib.crc32(str(one).encode(), checksum)
            print(f"round {number}: {checksum:08x} {one}")
            sys.stdout.flush()


main()
