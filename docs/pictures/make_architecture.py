"""Draw the way of the data through PALM, for ARCHITECTURE.md.

Usage: python docs/pictures/make_architecture.py [folder]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

WIDTH, HEIGHT = 920, 600
# Light paper of its own: the same picture in light and in dark pages.
PAPER, INK, SOFT, LINE = "#fcfcfa", "#1a1a1a", "#5c5c5c", "#444444"
FILLS = {"core": "#d6e6f5", "eval": "#d9efe0", "oracle": "#fbe3c4", "file": "#ececea"}
KINDS = {
    "core": "palm-core",
    "eval": "palm-eval",
    "oracle": "oracles: palm-mod, palm-trl, yours",
    "file": "files of a run",
}
BOX_WIDTH, BOX_HEIGHT, GAP = 154, 80, 20
LEFT = tuple(44 + step * (BOX_WIDTH + GAP) for step in range(5))
ASK, KEEP, CHOOSE, USE = 62, 194, 326, 458


class Box(NamedTuple):
    """What stands at a column of a row: a title, what it does, and where it lives."""

    column: int
    row: int
    kind: str
    title: str
    words: str
    place: str
    columns: int = 1

    @property
    def left(self) -> int:
        """Its left edge."""
        return LEFT[self.column]

    @property
    def width(self) -> int:
        """From edge to edge."""
        return BOX_WIDTH * self.columns + GAP * (self.columns - 1)

    @property
    def middle(self) -> float:
        """Halfway between its edges."""
        return self.left + self.width / 2


TASK = Box(0, ASK, "file", "task.toml", "what is wanted", "task.py")
WEIGHTS = Box(1, ASK, "core", "weights", "a grid, or adaptive", "grid.py, adaptive.py")
CALLS = Box(2, ASK, "core", "calls", "here, workers, Ray", "calls/")
ORACLE = Box(3, ASK, "oracle", "oracle", "train, decode, …", "tabular, mod, grpo")
POLICY = Box(4, ASK, "core", "policy", "rewards, f, model", "policies.py")
CERTIFICATE = Box(1, KEEP, "core", "certificate", "where is it weakest?", "certificate.py")
LEDGER = Box(
    2,
    KEEP,
    "file",
    "ledger.sqlite, artifacts",
    "every answer, at once; a stopped run goes on from here",
    "ledger/, artifacts.py",
    columns=3,
)
COVER = Box(1, CHOOSE, "core", "cover", "who will do where", "cover.py")
PRUNE = Box(2, CHOOSE, "core", "prune", "the fewest that do", "pruning.py")
PROVE = Box(3, CHOOSE, "core", "prove", "gaps, certificate", "exact_gaps.py")
PORTFOLIO = Box(4, CHOOSE, "file", "portfolio.json", "few, and the proof", "portfolio.py")
ROUTE = Box(1, USE, "core", "route", "who serves whom", "portfolio.py")
EVALUATE = Box(2, USE, "eval", "evaluate", "tables, figures", "evaluation.py")
REPORT = Box(3, USE, "eval", "report", "one page to explore", "report/")
EXPORT = Box(4, USE, "oracle", "export", "adapters, router", "export/")
BOXES = (
    *(TASK, WEIGHTS, CALLS, ORACLE, POLICY, CERTIFICATE, LEDGER, COVER, PRUNE, PROVE),
    *(PORTFOLIO, ROUTE, EVALUATE, REPORT, EXPORT),
)
ROWS = {"ask": ASK, "keep": KEEP, "choose": CHOOSE, "use": USE}


class Drawing:
    """An SVG that grows."""

    def __init__(self) -> None:
        self.root = ElementTree.Element(
            "svg",
            {
                "xmlns": "http://www.w3.org/2000/svg",
                "viewBox": f"0 0 {WIDTH} {HEIGHT}",
                "role": "img",
                "font-family": "system-ui, 'Segoe UI', Helvetica, Arial, sans-serif",
            },
        )
        self.add("title").text = "The way of the data"
        marker = self.add(
            "marker", id="tip", viewBox="0 0 8 8", refX=7, refY=4, markerWidth=8, markerHeight=8,
            orient="auto",
        )  # fmt: skip
        ElementTree.SubElement(marker, "path", d="M0,0 L8,4 L0,8 z", fill=LINE)
        self.add("rect", width=WIDTH, height=HEIGHT, rx=12, fill=PAPER, stroke="#d0d0cc")

    def add(self, kind: str, **attributes: object) -> ElementTree.Element:
        """An element; ``a__b`` is the attribute ``a-b``."""
        names = {name.replace("__", "-"): str(v) for name, v in attributes.items()}
        return ElementTree.SubElement(self.root, kind, names)

    def text(
        self, x: float, y: float, words: str, size: float, colour: str = INK, **more: object
    ) -> None:
        """Words at a place."""
        self.add("text", x=x, y=y, font__size=size, fill=colour, **more).text = words

    def box(self, box: Box) -> None:
        """A box with its three lines."""
        self.add(
            "rect", x=box.left, y=box.row, width=box.width, height=BOX_HEIGHT, rx=7,
            fill=FILLS[box.kind], stroke="#9a9a96",
        )  # fmt: skip
        self.text(box.middle, box.row + 26, box.title, 17, text__anchor="middle", font__weight=600)
        self.text(box.middle, box.row + 47, box.words, 13.5, text__anchor="middle")
        self.text(
            box.middle, box.row + 67, box.place, 12, SOFT, text__anchor="middle",
            font__family="ui-monospace, Consolas, Menlo, monospace",
        )  # fmt: skip

    def arrow(self, *points: tuple[float, float], dashed: bool = False) -> None:
        """An arrow along points."""
        path = "M" + " L".join(f"{x:g},{y:g}" for x, y in points)
        more = {"stroke__dasharray": "5 4"} if dashed else {}
        self.add(
            "path", d=path, fill="none", stroke=LINE, stroke__width=1.6, marker__end="url(#tip)",
            **more,
        )  # fmt: skip

    def right(self, start: Box, end: Box) -> None:
        """An arrow from a box to the next one in its row."""
        height = start.row + BOX_HEIGHT / 2
        self.arrow((start.left + start.width, height), (end.left - 1, height))


def draw() -> str:
    """Return the picture."""
    drawing = Drawing()
    place = 44.0
    for kind, name in KINDS.items():
        drawing.add("rect", x=place, y=22, width=14, height=14, rx=3, fill=FILLS[kind],
                    stroke="#9a9a96")  # fmt: skip
        drawing.text(place + 21, 34, name, 14)
        place += 21 + 7.1 * len(name) + 26
    for name, row in ROWS.items():
        y = row + BOX_HEIGHT / 2
        drawing.text(
            25, y, name, 14, SOFT, text__anchor="middle", transform=f"rotate(-90 25 {y:g})"
        )
    for box in BOXES:
        drawing.box(box)
    for first, second in ((TASK, WEIGHTS), (WEIGHTS, CALLS), (CALLS, ORACLE), (ORACLE, POLICY)):
        drawing.right(first, second)
    for first, second in ((COVER, PRUNE), (PRUNE, PROVE), (PROVE, PORTFOLIO)):
        drawing.right(first, second)
    drawing.arrow((POLICY.middle, ASK + BOX_HEIGHT), (POLICY.middle, KEEP - 1))
    drawing.arrow(
        (LEDGER.left, KEEP + BOX_HEIGHT / 2),
        (CERTIFICATE.left + BOX_WIDTH + 1, KEEP + BOX_HEIGHT / 2),
        dashed=True,
    )
    drawing.arrow((WEIGHTS.middle, KEEP), (WEIGHTS.middle, ASK + BOX_HEIGHT + 1), dashed=True)
    drawing.text(WEIGHTS.middle + 8, KEEP - 20, "ask there next (adaptive)", 13, SOFT)
    middle = (KEEP + BOX_HEIGHT + CHOOSE) / 2
    drawing.arrow(
        (CALLS.middle, KEEP + BOX_HEIGHT), (CALLS.middle, middle),
        (COVER.middle, middle), (COVER.middle, CHOOSE - 1),
    )  # fmt: skip
    drawing.text(CALLS.middle + 8, middle + 4, "no oracle is called to choose", 13, SOFT)
    bus = (CHOOSE + BOX_HEIGHT + USE) / 2
    drawing.arrow((PORTFOLIO.middle, CHOOSE + BOX_HEIGHT), (EXPORT.middle, USE - 1))
    drawing.arrow((PORTFOLIO.middle, bus), (ROUTE.middle, bus), (ROUTE.middle, USE - 1))
    for box in (EVALUATE, REPORT):
        drawing.arrow((box.middle, bus), (box.middle, USE - 1))
    drawing.text(
        LEFT[1], USE + BOX_HEIGHT + 34,
        "evaluate, report and export read the run's ledger and artifacts too, and change neither.",
        13, SOFT,
    )  # fmt: skip
    ElementTree.indent(drawing.root)
    return ElementTree.tostring(drawing.root, encoding="unicode") + "\n"


def main() -> None:
    """Write the picture."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    file = folder / "way-of-the-data.svg"
    file.write_text(draw(), encoding="utf-8", newline="\n")
    print(file)


if __name__ == "__main__":
    main()
