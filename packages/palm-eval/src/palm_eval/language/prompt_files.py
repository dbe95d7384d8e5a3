"""Prompts, as they stand in a file: JSON lines with "prompt" and columns of one's own.

Two layouts are understood: TRL's, with a column "prompt" (text or a conversation), and that of
RLVR (Lambert et al. 2025), whose "messages" end in the question, or in the answer to it, which
is left out. All other columns go to the rewards.
"""

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
    from collections.abc import Iterable, Iterator, Mapping, Sequence

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

    def chosen(self, numbers: Sequence[int]) -> Prompts:
        """Those of the given numbers, in that order; one may stand several times."""
        return Prompts(
            tuple(self.texts[number] for number in numbers),
            {name: tuple(v[number] for number in numbers) for name, v in self.columns.items()},
        )


def read_prompts(path: str | Path, *, skip: int = 0, first: int | None = None) -> Prompts:
    """Read prompts, one JSON object a line: {"prompt": …, "ground_truth": …}.

    In place of "prompt" there may be "messages", see :func:`prompt_of`.

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
    return prompts_of(_decoded(lines, name), name, skip=skip, first=first)


def prompts_of(
    rows: Iterable[tuple[str, Mapping[str, Any]]], place: str, *, skip: int, first: int | None
) -> Prompts:
    """Make prompts of rows in either layout.

    Args:
        rows: what messages call a row, and its columns.
        place: what messages call all of them.
        skip: leave out so many.
        first: take so many after those; ``None`` takes all.

    Raises:
        InputError: a row without a prompt, or with other columns than the first; too few rows.
    """
    texts: list[Any] = []
    columns: dict[str, list[Any]] = {}
    names: list[str] | None = None
    count = 0
    for where, row in rows:
        count += 1
        text = prompt_of(row, where)
        found = sorted(row)
        if names is None:
            names = found
        elif found != names:
            raise InputError(f"{where}: columns differ from those of the first")
        if count <= skip or len(texts) == first:
            continue
        texts.append(text)
        for name, value in row.items():
            if name not in ("prompt", "messages"):
                columns.setdefault(name, []).append(value)
    if not texts or (first is not None and len(texts) < first):
        wanted = "at least one" if first is None else str(first)
        raise InputError(f"{place}: {count} prompts, must have {wanted} after skip = {skip}")
    return Prompts(tuple(texts), {name: tuple(values) for name, values in columns.items()})


def prompt_of(row: Mapping[str, Any], where: str) -> Any:
    """The prompt of a row: its "prompt", or its "messages" up to the last question.

    Args:
        row: columns by name.
        where: what messages call it.

    Raises:
        InputError: neither is there, or it is no text and no conversation; nobody asks.

    Example:
        >>> said = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}]
        >>> prompt_of({"messages": said, "ground_truth": "2"}, "row 1")
        [{'role': 'user', 'content': '1+1?'}]
    """
    if "prompt" in row:
        messages(row["prompt"], role="user", name=f"{where}: prompt")
        return row["prompt"]
    if "messages" not in row:
        raise InputError(
            f'{where}: must have "prompt", or "messages" as RLVR has; has '
            f"{one_line(', '.join(map(repr, row)), 120) or 'nothing'}"
        )
    said = messages(row["messages"], role="user", name=f"{where}: messages")
    asked = max((i for i, one in enumerate(said) if one["role"] == "user"), default=None)
    if asked is None:
        raise InputError(f"{where}: messages have none of role 'user', must end in a question")
    return said[: asked + 1]


def _decoded(lines: Iterable[bytes], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        where = f"{name}, line {number}"
        try:
            row = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InputError(f"{where}: is no JSON: {one_line(error, 200)}") from error
        if not isinstance(row, dict):
            raise InputError(f'{where}: must be an object with "prompt"')
        yield where, row
