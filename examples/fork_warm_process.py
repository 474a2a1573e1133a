"""Start a guest once, take a snapshot when it is warm, and fork it for each request.

    python examples/fork_warm_process.py DIRECTORY

Each fork begins with the memory of the snapshot and has a journal of its own. The warm journal does
not change, so forks may run at the same time.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import journal
from journal.engine import SnapshotOptions
from journal.snapshots import Trigger

GUEST = Path(__file__).parents[1] / "fixtures" / "guests" / "prompt.wasm"
REQUESTS = (b"get greeting\n", b"set greeting moin\nget greeting\n", b"sum\n")


def warm_up(path: Path) -> tuple[int, int]:
    """Record the slow start of the guest.

    Return the sequence number of its snapshot, and the size of its output until then.
    """
    options = SnapshotOptions(on=frozenset({Trigger.EXPLICIT}))
    with journal.record(GUEST, path, args=["prompt"], snapshots=options) as guest:
        guest.feed(b"set greeting hello\nget greeting\n")
        while b"hello" not in guest.stdout:
            guest.wait(timeout_seconds=0.01)
        seq = guest.snapshot(timeout_seconds=60)
        if seq is None:
            raise SystemExit("the guest took no snapshot within a minute")
        return seq, len(guest.stdout)


def answer(path: Path, seq: int, warm_size: int, number: int, request: bytes) -> bytes:
    """Answer a request in a fork. Return its output after the snapshot."""
    fork = path.with_name(f"request-{number}.journal")
    with journal.resume(path, at=seq, into=fork) as guest:
        guest.feed(request)
        guest.close_stdin()
        guest.wait()
        return guest.stdout[warm_size:]


def main(folder: Path) -> None:
    """Answer all requests, each in a fork, and print the answers."""
    path = folder / "warm.journal"
    seq, warm_size = warm_up(path)
    with ThreadPoolExecutor() as pool:
        answers = pool.map(lambda item: answer(path, seq, warm_size, *item), enumerate(REQUESTS))
        for request, output in zip(REQUESTS, answers, strict=True):
            print(request, "->", output)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
