"""Prompts from wherever they are: JSON lines, tables, folders, the Hugging Face hub.

In TRL's layout or RLVR's, see :mod:`palm_eval.language.prompt_files`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palm_core.errors import InputError
from palm_core.files import is_folder
from palm_core.simplex import check_count
from palm_core.text import one_line, reason
from palm_eval.language.prompt_files import Prompts, prompts_of, read_prompts

if TYPE_CHECKING:
    from collections.abc import Iterable

_KEYS = ("path", "name", "split", "revision", "skip", "first")
_LOADERS = {".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}


@dataclass(frozen=True, kw_only=True)
class PromptSet:
    """Where prompts are.

    Args:
        path: a file (.jsonl, .json, .csv, .parquet), a folder that `datasets` can read, or
            the name of a dataset on the hub.
        name: of its configuration, where it has several.
        split: of a folder or dataset; files have none but "train".
        revision: of a dataset on the hub.
        skip, first: leave out so many, then take so many; ``None`` takes all.
    """

    path: str
    name: str | None = None
    split: str = "train"
    revision: str | None = None
    skip: int = 0
    first: int | None = None

    @classmethod
    def of(cls, given: object, option: str) -> PromptSet:
        """Read an option: a path or name, or a table with ``path``.

        Raises:
            InputError: neither, or an entry that is unknown or of another type: named.
        """
        if isinstance(given, (str, Path)):
            given = {"path": str(given)}
        if not isinstance(given, Mapping) or not isinstance(given.get("path"), str):
            raise InputError(
                f"{option} = {one_line(repr(given), 80)}: must be a file, a folder, the name of a "
                f"dataset, or a table with path and perhaps {', '.join(_KEYS[1:])}"
            )
        for key, value in given.items():
            if key not in _KEYS:
                raise InputError(f"{option}.{key}: unknown, must be one of {', '.join(_KEYS)}")
            if key in ("skip", "first"):
                check_count(value, name=f"{option}.{key}", least=int(key == "first"))
            elif not isinstance(value, str) or not value:
                raise InputError(f"{option}.{key} = {value!r}: must be text")
        return cls(**given)

    def check(self, folder: Path, option: str) -> None:
        """Refuse a file that is not there, without asking the hub.

        Raises:
            InputError: naming it.
        """
        looks_like_a_file = Path(self.path).suffix.lower() in {".jsonl", *_LOADERS}
        if looks_like_a_file and not (folder / self.path).exists() and not Path(self.path).exists():
            raise InputError(f"{option} = {self.path!r}: no such file in {one_line(folder)}")

    def read(self, folder: Path, option: str, *, first: int | None = None) -> Prompts:
        """Read the prompts.

        Args:
            folder: where a relative path is looked for first.
            option: what messages call it.
            first: in place of :attr:`first`.

        Raises:
            InputError: nothing there, or not of either layout: named; too few prompts.
        """
        near = folder / self.path
        at = near if near.exists() else Path(self.path)
        wanted = self.first if first is None else first
        if at.suffix.lower() == ".jsonl" or (is_folder(at) and (at / "prompts.jsonl").exists()):
            return read_prompts(at, skip=self.skip, first=wanted)
        place = f"{option} = {self.path!r}"
        rows = islice(self._load(at, place), None if wanted is None else self.skip + wanted)
        named = ((f"{place}, row {number}", row) for number, row in enumerate(rows))
        return prompts_of(named, place, skip=self.skip, first=wanted)

    def _load(self, at: Path, place: str) -> Iterable[Mapping[str, Any]]:
        import datasets

        kind = _LOADERS.get(at.suffix.lower())
        try:
            if at.is_dir() and (at / "dataset_info.json").is_file():
                found: Any = datasets.load_from_disk(str(at))
            elif at.is_dir() and (at / "dataset_dict.json").is_file():
                found = datasets.load_from_disk(str(at))[self.split]
            elif at.is_file() and kind is not None:
                found = datasets.load_dataset(kind, data_files=str(at), split="train")
            else:
                found = datasets.load_dataset(
                    str(at) if at.exists() else self.path,
                    self.name,
                    split=self.split,
                    revision=self.revision,
                )
        except Exception as error:
            raise InputError(
                f"{place}: cannot be read, must be a file (.jsonl, .json, .csv, .parquet), a "
                f"folder or a dataset on the Hugging Face hub: {reason(error)}"
            ) from error
        rows: Iterable[Mapping[str, Any]] = found
        return rows
