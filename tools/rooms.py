"""Pictures of the rooms, drawn from the import contracts in pyproject.toml.

``python tools/rooms.py`` writes ``docs/pictures/rooms.svg`` and ``engine.svg``; ``--check`` reports
pictures that do not fit the contracts. The text in a box is the first sentence of the docstring of
that package or module.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
import tomllib
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "pictures"
PICTURES = {"rooms.svg": "The house", "engine.svg": "The engine"}
"""The file of each picture, and the beginning of the name of its contract."""

WIDTH = 760
MARGIN = 10
GAP = 12
LINE = 15
PIXELS_PER_LETTER = 6.3


def read_layers(name: str) -> list[list[str]]:
    """Return the rooms of each layer of a contract, from the top."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    contract = next(item for item in settings["contracts"] if item["name"].startswith(name))
    return [re.findall(r"[\w.]+", layer) for layer in contract["layers"]]


def describe(module: str) -> str:
    """Return the first sentence of the docstring of a package or module, without its full stop."""
    path = ROOT / ("cli" if module == "journaltool" else "") / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text())) or ""
    sentence = re.split(r"\.(?:\s|$)", " ".join(text.split()), maxsplit=1)[0]
    return sentence.replace("``", "")


def draw(layers: list[list[str]], title: str) -> str:
    """Return the picture of a contract as SVG: one row of boxes for each layer."""
    boxes: list[str] = []
    top = MARGIN
    for layer in layers:
        width = (WIDTH - 2 * MARGIN - GAP * (len(layer) - 1)) / len(layer)
        texts = [textwrap.wrap(describe(room), int(width / PIXELS_PER_LETTER)) for room in layer]
        height = LINE * (max(map(len, texts)) + 1) + 14
        for index, (room, lines) in enumerate(zip(layer, texts, strict=True)):
            boxes += _box(room, lines, MARGIN + index * (width + GAP), top, width, height)
        top += height + GAP
    height = top - GAP + MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" font-family="DejaVu Sans, Verdana, sans-serif" '
            'font-size="12" role="img" aria-labelledby="title">',
            f'  <title id="title">{escape(title)}</title>',
            f'  <rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
            *boxes,
            "</svg>\n",
        ]
    )


def _box(
    room: str, lines: list[str], left: float, top: int, width: float, height: int
) -> list[str]:
    middle = left + width / 2
    elements = [
        f'  <rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{height}" rx="5" '
        'fill="#eceff1" stroke="#37474f"/>',
        f'  <text x="{middle:.1f}" y="{top + LINE + 3}" text-anchor="middle" font-weight="bold" '
        f'fill="#263238">{escape(room)}</text>',
    ]
    for number, line in enumerate(lines, 2):
        elements.append(
            f'  <text x="{middle:.1f}" y="{top + LINE * number + 3}" text-anchor="middle" '
            f'font-size="11" fill="#455a64">{escape(line)}</text>'
        )
    return elements


def find_stale() -> list[Path]:
    """Return the pictures that differ from the contracts and docstrings."""
    return [path for path, text in _draw_all() if not path.exists() or path.read_text() != text]


def _draw_all() -> list[tuple[Path, str]]:
    return [
        (FOLDER / file, draw(read_layers(name), f"{name}: imports go down only"))
        for file, name in PICTURES.items()
    ]


def main() -> None:
    """Write the pictures, or check them."""
    if "--check" in sys.argv:
        stale = find_stale()
        if stale:
            sys.exit(f"stale: {', '.join(map(str, stale))}; run python tools/rooms.py")
        return
    for path, text in _draw_all():
        path.write_text(text)


if __name__ == "__main__":
    main()
