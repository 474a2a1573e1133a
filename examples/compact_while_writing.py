"""Compact the journal of a live writer: it keeps the newest state, and drops its history.

    python examples/compact_while_writing.py DIRECTORY

The state is a table of counters in a memory of one page. Each round stores the whole table and ends
with a snapshot, so the journal grows although its state does not. Appends continue while a worker
process compacts.
"""

import struct
import sys
import threading
from io import BytesIO
from pathlib import Path

import journal
from journal.events.memory import UpdateMemoryRegion
from journal.events.snapshots import Snapshot, Trigger

COUNTERS = 512
TABLE = struct.Struct(f"<{COUNTERS}Q")
ROUNDS = 400


def append_round(writer: journal.Writer, counters: list[int]) -> None:
    """Append the table as a snapshot."""
    data = TABLE.pack(*counters)
    writer.append(UpdateMemoryRegion(start=0, end=len(data), data=data))
    writer.append(Snapshot(when=0, trigger=Trigger.EXPLICIT))


def count_up(writer: journal.Writer, counters: list[int], rounds: int) -> None:
    """Change the table, round after round."""
    for number in range(rounds):
        for index in range(number % 7, COUNTERS, 7):
            counters[index] += index ^ number
        append_round(writer, counters)
    writer.sync()


def read_counters(path: Path) -> list[int]:
    """Return the table at the last snapshot of a journal."""
    memory = BytesIO()
    journal.extract_memory(path, memory)
    return list(TABLE.unpack_from(memory.getvalue()))


def main(folder: Path) -> None:
    """Write rounds before and during a compaction, and compare the state with the journal's."""
    path = folder / "counters.journal"
    counters = [0] * COUNTERS
    with journal.Writer(path, compress=False) as writer:
        count_up(writer, counters, ROUNDS)
        appender = threading.Thread(target=count_up, args=(writer, counters, ROUNDS))
        appender.start()
        result = journal.compact_online(writer)
        appender.join()
        assert result.switchover is not None
        count_up(writer, counters, 1)
        last_seq = writer.next_seq - 1
    assert read_counters(path) == counters
    with journal.Reader(path) as reader:
        assert reader.summary().last_seq == last_seq  # Events keep their sequence numbers.
    compaction = result.compaction
    print(f"kept {compaction.kept_size} of {compaction.size} bytes of events while writing")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
