"""Process of the scaling benchmark: `python -m benchmarks.scaling_process CASE`.

It reads lines of a number of threads and a number of seconds, runs the case in so many threads for
so long, and prints what that cost.
"""

from __future__ import annotations

import json
import resource
import sys
import threading
import time
from collections.abc import Callable

from benchmarks import scaling_cases


def main() -> None:
    """Serve runs of one case until the end of standard input."""
    with scaling_cases.opened(scaling_cases.CASES[sys.argv[1]]) as make_operation:
        operations = [make_operation()]
        operations[0]()
        print("ready", flush=True)
        for line in sys.stdin:
            threads, seconds = line.split()
            while len(operations) < int(threads):
                operations.append(make_operation())
            costs = measure(operations[: int(threads)], float(seconds))
            print(json.dumps(costs), flush=True)


def measure(operations: list[Callable[[], None]], seconds: float) -> dict[str, float]:
    """Run each operation in a thread of its own, and return the calls and their cost.

    ``begin`` and ``end`` are times of the monotonic clock, which all processes share.
    """
    counts = [0] * len(operations)
    barrier = threading.Barrier(len(operations) + 1)

    def work(number: int) -> None:
        operation, calls = operations[number], 0
        barrier.wait()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            operation()
            calls += scaling_cases.BATCH
        counts[number] = calls

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(operations))]
    for thread in threads:
        thread.start()
    barrier.wait()
    before, begin = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    for thread in threads:
        thread.join()
    after, end = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    return {
        "calls": sum(counts),
        "begin": begin,
        "end": end,
        "user": after.ru_utime - before.ru_utime,
        "system": after.ru_stime - before.ru_stime,
        "faults": after.ru_minflt - before.ru_minflt,
        "waits": after.ru_nvcsw - before.ru_nvcsw,
    }


if __name__ == "__main__":
    main()
