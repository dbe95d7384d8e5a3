"""Fetch the paper's prompts from the Hugging Face hub, as JSON lines beside this file.

Usage: python prompts.py rlvr-gsm|safety-alignment|helpful-assistants

The paper does not say in which order "the first" prompts come; these are the first of each
data set as it is published, each prompt once.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HERE = Path(__file__).parent
Row = dict[str, Any]


def rlvr(rows: Iterable[Row]) -> Iterator[Row]:
    """RLVR's own columns, with those that the rewards read."""
    for row in rows:
        yield {key: row[key] for key in ("messages", "ground_truth", "dataset")}


def asked(rows: Iterable[Row]) -> Iterator[Row]:
    """The prompts of pairs of responses, each once (PKU-SafeRLHF repeats none in a row)."""
    seen = set()
    for row in rows:
        if row["prompt"] not in seen:
            seen.add(row["prompt"])
            yield {"prompt": row["prompt"]}


def dialogues(rows: Iterable[Row]) -> Iterator[Row]:
    r"""What stands before the last answer of HH-RLHF, with "\n\nAssistant:" at its end."""
    seen = set()
    for row in rows:
        found = re.match(r"(.*\n\nAssistant:)", row["chosen"], re.S)
        if found and found.group(1) not in seen:
            seen.add(found.group(1))
            yield {"prompt": found.group(1)}


#: task → file → data sets (name, split) and how their rows are read
SOURCES: dict[str, dict[str, tuple[list[tuple[str, str]], Any]]] = {
    "rlvr-gsm": {
        "rlvr-train.jsonl": (
            [("allenai/RLVR-GSM", "train"), ("allenai/RLVR-MATH", "train")],
            rlvr,
        ),
        "rlvr-gsm-test.jsonl": ([("allenai/RLVR-GSM", "test")], rlvr),
    },
    "safety-alignment": {"safe-rlhf.jsonl": ([("PKU-Alignment/PKU-SafeRLHF-10K", "train")], asked)},
    "helpful-assistants": {"hh-rlhf.jsonl": ([("Anthropic/hh-rlhf", "test")], dialogues)},
}


def write(file: Path, rows: Iterable[Row]) -> int:
    """Write rows as JSON lines, whole or not at all; returns how many."""
    temporary = file.with_suffix(".new")
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    temporary.write_text("".join(lines), encoding="utf-8")
    temporary.replace(file)
    return len(lines)


def main() -> None:
    """Fetch what the command line asks for."""
    if len(sys.argv) != 2 or sys.argv[1] not in SOURCES:
        sys.exit(__doc__)
    import datasets

    for name, (sets, read) in SOURCES[sys.argv[1]].items():
        rows = (row for source, split in sets for row in datasets.load_dataset(source, split=split))
        print(f"{name}: {write(HERE / name, read(rows))} prompts")


if __name__ == "__main__":
    main()
