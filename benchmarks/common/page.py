"""The benchmark page, made from what was asked and what was measured, and nothing else."""

from __future__ import annotations

import importlib
import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from common.documents import FOLDER, load

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from common.declared import Aim, Benchmark, Figure
    from common.documents import Document, Value

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"
PICTURE = ROOT / "docs" / "pictures" / "benchmarks.svg"
# In the order of the page.
NAMES = (
    *("certified_calls", "cover", "exact", "next_weight", "overhead", "soak", "fuzz"),
    *("interval_coverage", "forest", "grpo"),
)
LONG = 13  # rows; longer tables are folded
UNEXPLAINED = "Nobody has said why yet."
MISSING = "not installed"
VERDICTS = {True: "met", False: "**not met**", None: "not decided"}


def declared() -> dict[str, Benchmark]:
    """What each benchmark states, by its name."""
    return {name: importlib.import_module(name).ABOUT for name in NAMES}


def make(folder: Path = FOLDER) -> str:
    """The page, as Markdown."""
    about, found = declared(), load(folder)
    parts = [HEAD, summary(about, found), picture_words(about, found), where(found)]
    parts += [section(name, one, found.get(name), found) for name, one in about.items()]
    return "\n\n".join(part.strip() for part in parts) + "\n"


HEAD = """
<!-- Made by `python benchmarks --page` out of benchmarks/*.py and benchmarks/results; not to be
     edited by hand. -->

# Benchmarks

Each benchmark asks one question and has one baseline, in the same run and on the same machine.
What counts is the ratio of the two: absolute times say as much about the machine. A ratio is
what the baseline takes, divided by what ours takes: above 1× ours is better. An aim was set
before it was measured. It is judged on every instance unless it says otherwise, and it stays
here when it is not met.

<!-- not run: takes 15 minutes -->
```sh
nox -s benchmarks                      # all of them, quick
nox -s benchmarks -- grid cover --full # some of them, whole
```
"""


def summary(about: Mapping[str, Benchmark], found: Mapping[str, Document]) -> str:
    """One table: a row for each aim."""
    rows = ["| Benchmark | Question | Against | Aim | Median (range; how many) | Met? |"]
    rows.append("|---|---|---|---|---|---|")
    for name, one in about.items():
        heads = [f"[{name}](#{name})", one.question, one.against]
        for aim in one.aims:
            values = values_of(found.get(name), aim.figure)
            measured = measured_words(aim, values)
            cells = (*heads, aim.says, measured, verdict(aim, values))
            rows.append(f"| {' | '.join(cells)} |")
            heads = ["", "", ""]
    return "\n".join(rows)


def values_of(document: Document | None, figure: Figure) -> list[Value]:
    """What was measured of a figure."""
    return document.figures.get(figure.name, []) if document else []


def spread(figure: Figure, values: Sequence[Value]) -> str:
    """As in "41× (19× to 56×; 8)", the last how many; bounds are kept: "≥ 60×"."""
    ordered = sorted(values, key=lambda one: one.value)
    if len(ordered) == 1:
        return figure.shown(ordered[0].value, ordered[0].bound)
    middle = statistics.median(one.value for one in ordered)
    # A median among bounds is a bound itself.
    above = {one.bound for one in ordered if one.bound and one.value <= middle}
    bound = above.pop() if len(above) == 1 else ""
    least, most = (figure.shown(one.value, one.bound) for one in (ordered[0], ordered[-1]))
    return f"{figure.shown(middle, bound)} ({least} to {most}; {len(ordered)})"


def verdict(aim: Aim, values: Sequence[Value]) -> str:
    """As in "met" or "not met (5 of 8)": so many instances meet it."""
    found = aim.judge(values)
    if not found.of:
        return "not measured"
    word = VERDICTS[found.met]
    if found.met is True or found.of == 1:
        return word
    return f"{word} ({found.within} of {found.of})"


def picture_words(about: Mapping[str, Benchmark], found: Mapping[str, Document]) -> str:
    """The picture, with what it shows in words."""
    lines = [
        f"{name}: {spread(figure, values)}"
        for name, one in about.items()
        for figure in one.figures
        if figure.drawn and (values := values_of(found.get(name), figure))
    ]
    text = "; ".join(lines)
    return (
        f"![The ratios of all benchmarks on a logarithmic scale. {text}.]"
        f"(pictures/{PICTURE.name})\n\n"
        "A dot is one instance, a bar the median. Right of the line at 1× ours is better; an "
        "arrow marks a value that is only known to be at least as large, because the baseline "
        "was stopped."
    )


def facts(document: Document) -> dict[str, str]:
    """Machine and versions of a run, named."""
    machine = document.machine
    return {
        "processor": f"{machine.processor}, {machine.cores} cores",
        "memory": f"{machine.memory_gib:g} GiB",
        "system": machine.system,
        **document.versions,
    }


def common_facts(found: Mapping[str, Document]) -> dict[str, str]:
    """What most of the runs have had in common."""
    every = [facts(document) for document in found.values()]
    names = dict.fromkeys(name for one in every for name in one)
    return {
        name: statistics.mode(one.get(name, "not installed") for one in every) for name in names
    }


def where(found: Mapping[str, Document]) -> str:
    """The machine and the versions."""
    shared = {name: text for name, text in common_facts(found).items() if text != MISSING}
    machine = ", ".join(shared.pop(name) for name in ("processor", "memory", "system"))
    listed = ", ".join(f"{name} {version}" for name, version in shared.items())
    return (
        f"## Where\n\n{machine}. {listed}.\n\n"
        "Where a run had something else, its section says so. It also says how busy the machine "
        "was: the load average of a minute at the beginning and the end (the benchmark is in it "
        "too), and the share of the cores that other work took. Both sides of a ratio were "
        "measured in turns or one right after the other, so other work slows both; it widens "
        "the range all the same."
    )


def section(
    name: str, about: Benchmark, document: Document | None, found: Mapping[str, Document]
) -> str:
    """All of one benchmark."""
    lines = [f"## {name}", f"*{about.question}*"]
    lines.append(f"**Against:** {about.baseline}\n\n**Why that:** {about.why}")
    lines.append("**Aims:**")
    aims = []
    for aim in about.aims:
        values = values_of(document, aim.figure)
        remark = aim.remark or (UNEXPLAINED if aim.judge(values).met is False else "")
        aims.append(f"- {aim.says}: {verdict(aim, values)}. {remark}".strip())
    lines.append("\n".join(aims))
    lines.append(f"`benchmarks/{name}.py`. Whole: {about.full}. With `--quick`: {about.quick}.")
    if document is None:
        return "\n\n".join([*lines, "Not run yet."])
    lines.append(run_words(document, found))
    lines += document.notes
    rows = ["| Figure | Median (range) |", "|---|---|"]
    rows += [
        f"| {figure.name} | {spread(figure, values)} |"
        for figure in about.figures
        if (values := values_of(document, figure))
    ]
    if len(rows) > 2:
        lines.append("\n".join(rows))
    for table in document.tables:
        title = f"{table.title[:1].upper()}{table.title[1:]}"
        cells = [table.columns, ["---"] * len(table.columns), *table.rows]
        text = "\n".join(f"| {' | '.join(map(escaped, row))} |" for row in cells)
        if len(table.rows) > LONG:
            head = f"<summary>{title} ({len(table.rows)} rows)</summary>"
            lines.append(f"<details markdown>\n{head}\n\n{text}\n\n</details>")
        else:
            lines.append(f"{title}:\n\n{text}")
    return "\n\n".join(lines)


def escaped(cell: str) -> str:
    """A cell that Markdown leaves as it is."""
    return cell.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def measured_words(aim: Aim, values: Sequence[Value]) -> str:
    """The median and range of an aim's figure, and the mean where that is what counts."""
    if not values:
        return "–"
    text = spread(aim.figure, values)
    if aim.over != "geometric mean":
        return text
    mean = statistics.geometric_mean(one.value for one in values)
    bound = "≥" if {one.bound for one in values} == {"", "≥"} else ""
    return f"{text}; geometric mean {aim.figure.shown(mean, bound)}"


def run_words(document: Document, found: Mapping[str, Document]) -> str:
    """When and how this one ran."""
    when, own = document.conditions, facts(document)
    shared = common_facts(found)
    kind = "quick" if document.quick else "whole"
    more = [word for word in document.arguments if word != "--quick"]
    arguments = f" (`{' '.join(more)}`)" if more else ""
    begin, end = when.load
    busy = (
        ""
        if when.others is None
        else f", {100 * when.others:.0f}\u202f% of the cores taken by other work"
    )
    differs = [
        f"{name} {own.get(name, MISSING)}"
        for name, text in shared.items()
        if own.get(name, MISSING) != text
    ]
    other = f" Other than above: {', '.join(differs)}." if differs else ""
    return (
        f"Measured {when.began[:10]}, {kind}{arguments}, in {when.seconds:,.0f} s, at commit "
        f"`{when.commit or 'unknown'}`; load {begin:g} → {end:g}{busy}.{other}"
    )
