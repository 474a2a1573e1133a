"""Evaluate JavaScript that nobody has read: each piece in a clone of a warm QuickJS.

    python tools/programs.py quickjs
    python examples/evaluate_code.py DIRECTORY

The interpreter starts once. One piece of code fails and one never ends: the others do not notice.
"""

import sys
from pathlib import Path

from journal.engine import QuickJSSandbox

QUICKJS = Path(__file__).parents[1] / ".cache" / "programs" / "quickjs.wasm"
SETUP = "const prices = {rye: 3, oats: 5, wheat: 4};"
CODES = (
    "Object.values(prices).reduce((sum, price) => sum + price)",
    "prices.barley.toFixed(2)",
    "std.writeFile('prices.csv', Object.entries(prices).join('\\n')); console.log('written')",
    "while (true) prices.rye++;",
    "prices.rye",
)


def main(folder: Path) -> None:
    """Evaluate all pieces of code, and print what each one gave."""
    sandbox = QuickJSSandbox.prepare(QUICKJS, folder / "warm.journal", setup=SETUP)
    with sandbox.open(workers=1) as box:
        for code in CODES:
            result = box.evaluate(code, seconds_max=0.5)
            shown = result.error.partition("\n")[0] or result.value
            print(f"{code[:30]:30} -> {shown}", dict(result.files) or result.stdout or "")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
