"""How a benchmark is run by hand: its arguments, its verdicts, its document."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.record import Record

if TYPE_CHECKING:
    from collections.abc import Callable

    from common.declared import Benchmark
    from common.documents import Document


def run(
    file: str,
    about: Benchmark,
    measure: Callable[[argparse.Namespace, Record], object],
    arguments: Callable[[argparse.ArgumentParser], object] | None = None,
) -> None:
    """Read the arguments, measure, print the verdicts, write the document if one is wanted."""
    parser = argparse.ArgumentParser(
        description=sys.modules["__main__"].__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help=about.quick)
    parser.add_argument(
        "--results", type=Path, metavar="FOLDER", help="write what was found there, as JSON"
    )
    if arguments is not None:
        arguments(parser)
    given = parser.parse_args()
    record = Record(Path(file).stem, about, _unusual(parser, given))
    measure(given, record)
    document = record.document()
    print()
    for line in verdicts(about, document):
        print(line)
    if given.results is not None:
        print(f"written: {document.save(given.results).name}")


def _unusual(parser: argparse.ArgumentParser, given: argparse.Namespace) -> list[str]:
    """The arguments that are not the default, as they would be typed."""
    found = ["--quick"] if given.quick else []
    for name, value in sorted(vars(given).items()):
        if name in ("quick", "results") or value == parser.get_default(name):
            continue
        found.append(f"--{name.replace('_', '-')}{'' if value is True else f' {_shown(value)}'}")
    return found


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return value.name if isinstance(value, Path) else str(value)


def verdicts(about: Benchmark, document: Document) -> list[str]:
    """A line for each aim: "met: …"."""
    lines = []
    for aim in about.aims:
        verdict = aim.judge(document.figures.get(aim.figure.name, []))
        word = {True: "met", False: "not met", None: "not decided"}[verdict.met]
        if not verdict.of:
            word = "not measured"
        counted = f" ({verdict.within} of {verdict.of})" if verdict.of > 1 else ""
        lines.append(f"aim {word}{counted}: {aim.says}")
    return lines
