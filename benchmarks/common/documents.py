"""What a benchmark has measured, as a JSON file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import msgspec

FOLDER = Path(__file__).parents[1] / "results"


class Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A figure of one instance; ``bound`` "≥" or "≤" where only that is known."""

    of: str
    value: float
    bound: Literal["", "≥", "≤"] = ""


class Table(msgspec.Struct, forbid_unknown_fields=True):
    """Rows as they were printed."""

    title: str
    columns: list[str]
    rows: list[list[str]] = []


class Machine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where it ran."""

    processor: str
    cores: int
    memory_gib: float
    system: str


class Conditions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When it ran, and what else did.

    ``load``: the load average of a minute when it began and when it ended; ``others``: the
    share of the cores' time that other work took (``None`` where the system does not tell).
    """

    began: str
    seconds: float
    load: tuple[float, float]
    others: float | None
    commit: str


class Document(msgspec.Struct, forbid_unknown_fields=True):
    """All that one run of a benchmark has found.

    ``arguments``: those that are not the default, ``--quick`` first.
    """

    benchmark: str
    arguments: list[str]
    conditions: Conditions
    machine: Machine
    versions: dict[str, str]
    figures: dict[str, list[Value]]
    tables: list[Table]
    notes: list[str]

    @property
    def quick(self) -> bool:
        """Whether it ran with ``--quick``."""
        return "--quick" in self.arguments

    def save(self, folder: Path) -> Path:
        """Write it whole or not at all; a quick run has a file of its own."""
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{self.benchmark}{'.quick' if self.quick else ''}.json"
        new = file.with_suffix(".new")
        text = msgspec.json.format(msgspec.json.encode(self), indent=1).decode()
        # A row and a value on a line of their own; no string holds a line break as it is.
        text = re.sub(r"[\[{][^\[\]{}]*[\]}]", lambda inner: re.sub(r"\n *", " ", inner[0]), text)
        new.write_text(text + "\n", encoding="utf-8")
        return new.replace(file)


def load(folder: Path = FOLDER) -> dict[str, Document]:
    """The document of each benchmark; the full run's where there are two."""
    found: dict[str, Document] = {}
    for file in sorted(folder.glob("*.json"), key=lambda file: (".quick" in file.name, file.name)):
        document = msgspec.json.decode(file.read_bytes(), type=Document)
        found.setdefault(document.benchmark, document)
    return found
