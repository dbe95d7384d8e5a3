"""Prompts, as they stand in a file: JSON lines with "prompt" and columns of one's own."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from palm_core.errors import InputError
from palm_core.files import is_folder, read_bounded
from palm_core.simplex import check_count
from palm_core.text import one_line
from palm_eval.rewards.texts import messages

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The largest file in bytes, and the most prompts.
LARGEST_FILE = 256 * 1024 * 1024
MOST_PROMPTS = 1_000_000


@dataclass(frozen=True)
class Prompts:
    """n prompts.

    Attributes:
        texts: strings or conversations, n.
        columns: by name, one value per prompt (ground truths, for instance).
    """

    texts: tuple[Any, ...]
    columns: Mapping[str, tuple[Any, ...]]

    @property
    def fingerprint(self) -> str:
        """Changes with any prompt and any value."""
        told = json.dumps([self.texts, dict(self.columns)], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()


def read_prompts(path: str | Path, *, skip: int = 0, first: int | None = None) -> Prompts:
    """Read prompts, one JSON object a line: {"prompt": …, "ground_truth": …}.

    Args:
        path: the file, or a folder with ``prompts.jsonl``.
        skip: leave out so many lines at the beginning.
        first: take so many after those; ``None`` takes all.

    Raises:
        InputError: no such file, too large, a line that is no such object: named; or no
            prompt is left.
    """
    check_count(skip, name="skip", least=0)
    if first is not None:
        check_count(first, name="first", least=1)
    file = Path(path)
    if is_folder(file):
        file /= "prompts.jsonl"
    data = read_bounded(file, LARGEST_FILE, kind="file of prompts")
    name = one_line(file)
    lines = data.removesuffix(b"\n").split(b"\n") if data else []
    if len(lines) > MOST_PROMPTS:
        raise InputError(f"{name}: {len(lines)} prompts, must be at most {MOST_PROMPTS}")
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        where = f"{name}, line {number}"
        try:
            row = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InputError(f"{where}: is no JSON: {one_line(error, 200)}") from error
        if not isinstance(row, dict) or "prompt" not in row:
            raise InputError(f'{where}: must be an object with "prompt"')
        messages(row["prompt"], role="user", name=f"{where}: prompt")
        if rows and row.keys() != rows[0].keys():
            raise InputError(f"{where}: columns differ from those of line 1")
        rows.append(row)
    chosen = rows[skip:] if first is None else rows[skip : skip + first]
    if not chosen or (first is not None and len(chosen) < first):
        wanted = "at least one" if first is None else str(first)
        raise InputError(f"{name}: {len(rows)} prompts, must have {wanted} after skip = {skip}")
    names = [column for column in chosen[0] if column != "prompt"]
    return Prompts(
        tuple(row["prompt"] for row in chosen),
        {column: tuple(row[column] for row in chosen) for column in names},
    )
