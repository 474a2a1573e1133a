"""Write a log of an application's own kinds of events, and read and query their fields.

    python examples/sensor_log.py DIRECTORY

The log declares its kinds, so ``journaltool inspect --where 'celsius > 30'`` understands it, too,
and so does a reader that has none of these classes.
"""

import sys
from pathlib import Path

import journal
from journal import Event, Query, Reader, Writer, application_event
from journal.events.wire_types import I64, Text


@application_event(tag=224)
class Reading(Event):
    """A temperature that a sensor measured."""

    sensor: Text
    celsius: I64


@application_event(tag=225)
class SensorLost(Event):
    """A sensor does not answer any more."""

    sensor: Text


def main() -> None:
    """Write the log, print its events, and copy the hot readings to another log."""
    folder = Path(sys.argv[1])
    with Writer(folder / "sensors.journal", kinds=[Reading, SensorLost]) as writer:
        writer.append(Reading(sensor="roof", celsius=31))
        writer.append(Reading(sensor="cellar", celsius=12))
        writer.append(SensorLost(sensor="roof"))

    with Reader(folder / "sensors.journal") as reader:
        for event in reader:  # Without the classes: the log has the names and the types.
            print(event)

    journal.filter(folder / "sensors.journal", folder / "hot.journal", Query(where="celsius > 30"))
    with Reader(folder / "hot.journal", kinds=[Reading]) as reader:
        hot = [event.sensor for event in reader if isinstance(event, Reading)]
    print(f"hot: {', '.join(hot)}")


if __name__ == "__main__":
    main()
