"""Write a log that survives a killed writer, and follow it while it grows.

    python examples/crash_safe_log.py DIRECTORY

A first writer is killed in the middle of its work. A second writer opens the same log and continues
after the last whole event. The follower reads the orders of both, each once and in order.
"""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from journal.log import CommitPolicy, Reader, Writer

ORDER, END = 224, 225
"""Tags of the events. Tags from 224 to 254 are reserved for applications."""
ORDERS_PER_WRITER = 50
TIMEOUT_SECONDS = 60


def write_orders(path: Path) -> None:
    """Append orders, and print the sequence number of each order when it is durable."""
    commit = CommitPolicy.group(events=10, milliseconds=2)
    with Writer(path, commit=commit) as writer:
        for _ in range(ORDERS_PER_WRITER):
            seq = writer.append_frame(ORDER, b"order %d" % writer.next_seq)
            writer.wait(seq)  # The order survives a power cut now.
            print(seq, flush=True)
        sys.stdin.read()  # Wait to be killed, or for the end of the input.
        writer.append_frame(END, b"")


def start_writer(path: Path) -> "subprocess.Popen[bytes]":
    """Start a process that writes orders."""
    return subprocess.Popen(
        [sys.executable, __file__, "--write", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def follow_orders(path: Path) -> Iterator[bytes]:
    """Yield the orders of the log up to its end, and wait for orders that are not written yet."""
    with Reader(path) as reader:
        for frame in reader.follow(timeout_seconds=TIMEOUT_SECONDS):
            if frame.tag == END:
                return
            yield frame.payload


def main(folder: Path) -> None:
    """Kill one writer, let another one finish, and check the orders that the follower read."""
    path = folder / "orders.journal"
    with ThreadPoolExecutor() as pool:
        with start_writer(path) as first:
            assert first.stdout is not None
            durable = [int(first.stdout.readline())]
            followed = pool.submit(lambda: list(follow_orders(path)))
            durable += [int(first.stdout.readline()) for _ in range(ORDERS_PER_WRITER // 2)]
            first.kill()
        with start_writer(path) as second:
            second.communicate(timeout=TIMEOUT_SECONDS)
        orders = followed.result()
    assert orders == [b"order %d" % number for number in range(len(orders))]
    assert len(orders) >= len(durable) + ORDERS_PER_WRITER
    print(f"{len(durable)} orders were durable before the kill, and the follower read all of them")


if __name__ == "__main__":
    if sys.argv[1] == "--write":
        write_orders(Path(sys.argv[2]))
    else:
        main(Path(sys.argv[1]))
