"""Cost of recording: `python benchmarks/run.py [--quick] [--only NAME] [--json PATH]`."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from benchmarks.suite import main

    main()
