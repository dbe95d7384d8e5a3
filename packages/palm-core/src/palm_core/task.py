"""Task files: what is asked of a run, checked before anything is spent.

A task is TOML; unknown tables and keys are refused by name. ``[oracle]`` goes to
the oracle's factory, which checks its own options.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palm_core.errors import InputError
from palm_core.execution import EXECUTORS, Execution
from palm_core.files import read_bounded
from palm_core.grid import ALPHA_HINT, MU_HINT
from palm_core.normalization import NORMALIZATIONS
from palm_core.settings import (
    METHODS,
    SOLVERS,
    TARGET_HINT,
    Settings,
    check_choice,
)
from palm_core.simplex import check_count, check_number
from palm_core.text import did_you_mean, one_line, read_number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


#: [prune] of a task says mu and alpha where the library says whose.
PRUNE_NAMES = {"mu": "prune_mu", "alpha": "prune_alpha"}

LARGEST_FILE = 1 << 20
DEEPEST = 32
_LARGEST_INT = 1 << 63
# tomllib takes time with the square of a dotted key's parts: a minute for 100 KB.
_PART = r"""(?:[A-Za-z0-9_-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')"""
_LONG_KEY = re.compile(rf"(?<![A-Za-z0-9_\\-])(?:{_PART}[ \t]*+\.[ \t]*+){{{DEEPEST + 1}}}")


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task file, resolved: every default filled in.

    Args:
        oracle: an entry point of ``palm.oracles`` or "package.module:factory".
        options: keyword options of the oracle's factory.
        settings: the grid and the pruning.
        seed: the run's seed.
        execution: how calls are made; no part of what makes two tasks the same.
        folder: what relative modules and paths in the task are relative to.
        study: how it is compared with what the literature reports, for ``palm reproduce``,
            which checks it; no part of what makes two tasks the same.
        source: what messages about it call it, its file's name; "" for one from no file.
    """

    oracle: str
    options: Mapping[str, Any]
    settings: Settings
    seed: int = 0
    execution: Execution = field(default_factory=Execution)
    folder: Path = Path()
    study: Mapping[str, Any] = field(default_factory=dict)
    source: str = field(default="", compare=False)

    def resolved(self) -> dict[str, Any]:
        """What is asked, as plain values: stored with the run, and what its hash is of."""
        return {
            "oracle": {"name": self.oracle, **self.options},
            **self.settings.tables(),
            "run": {"seed": self.seed},
        }


def load_task(
    path: str | Path, *, target_epsilon: float | None = None, max_calls: int | None = None
) -> Task:
    """Read and check a task file.

    Args:
        path: the file.
        target_epsilon: ask adaptively to this gap, whatever the file says.
        max_calls: at most so many calls, whatever the file says.

    Raises:
        InputError: one line with the file, the table, the key, its value and
            what would be accepted.
    """
    file = Path(path)
    content = read_toml(read_bounded(file, LARGEST_FILE, kind="task file"), one_line(file))
    if target_epsilon is not None:
        content.pop("grid", None)
        content["adaptive"] = {"target_epsilon": target_epsilon}
    if max_calls is not None:
        if not isinstance(content.get("adaptive"), dict):
            raise InputError(f"max_calls = {max_calls}: goes with a target only")
        content["adaptive"]["max_calls"] = max_calls
    try:
        return replace(parse_task(content, folder=file.parent), source=one_line(file.name))
    except InputError as error:
        raise InputError(one_line(f"{file.name} {error}")) from error


def read_toml(data: bytes, source: str) -> dict[str, Any]:
    """Parse TOML from a stranger: in linear time, no deeper than :data:`DEEPEST`.

    Args:
        data: the file.
        source: what error messages call it.

    Raises:
        InputError: not TOML, or numbers, names or tables that no task has.
    """
    try:
        text = data.decode("utf-8-sig")  # some editors write a byte order mark
        if _LONG_KEY.search(text):
            raise InputError(f"{source}: a name of more than {DEEPEST} dotted parts")
        content = tomllib.loads(text)
    except InputError:
        raise
    except UnicodeDecodeError as error:
        raise InputError(
            f"{source}: is not TOML: must be UTF-8 text, byte {error.start} is not"
        ) from error
    # ValueError: not TOML, or a number of more digits than Python reads
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source}: is not TOML: {one_line(error)}") from error
    _check_plain(content, source)
    return content


def _check_plain(content: dict[str, Any], source: str) -> None:
    """Refuse what cannot be hashed or shown later: depth, and whole numbers beyond TOML's."""
    level: list[Any] = [content]
    for _ in range(DEEPEST):
        inner = [x for node in level for x in (node.values() if isinstance(node, dict) else node)]
        for value in inner:
            if isinstance(value, int) and not -_LARGEST_INT <= value < _LARGEST_INT:
                raise InputError(f"{source}: a whole number of more than 64 bits")
        level = [x for x in inner if isinstance(x, (dict, list))]
        if not level:
            return
    raise InputError(f"{source}: tables and arrays are nested more than {DEEPEST} deep")


def parse_task(content: Mapping[str, Any], *, folder: Path | None = None) -> Task:
    """Check the parsed tables of a task.

    Raises:
        InputError: an unknown, missing or unacceptable entry.
    """
    _known(content, _TABLES, "", "table")
    tables: dict[str, dict[str, Any]] = {}
    for name, reader in _TABLES.items():
        given = content.get(name, {})
        if not isinstance(given, dict):
            raise InputError(f"[{name}] = {given!r}: must be a table")
        tables[name] = {}
        for key, value in given.items():
            if reader is None:  # others check those
                tables[name][key] = value
                continue
            _known(given, reader, f"[{name}] ", "key")
            tables[name][key] = reader[key](value, f"[{name}] {key}")
    oracle = tables["oracle"]
    name = oracle.pop("name", None)
    if name is None:
        raise InputError('[oracle] name: is missing; `name = "tabular"` is the embedded oracle')
    if not isinstance(name, str) or not name:
        raise InputError(f"[oracle] name = {name!r}: must be the name of an oracle")
    grid, prune, run = tables["grid"], tables["prune"], tables["run"]
    return Task(
        oracle=name,
        options=_plain(oracle),
        settings=_settings(content, grid, tables["adaptive"], prune),
        seed=run.pop("seed", 0),
        execution=_execution(run),
        folder=folder or Path(),
        study=tables["study"],
    )


def _execution(run: Mapping[str, Any]) -> Execution:
    try:
        return Execution(**run)
    except InputError as error:
        raise InputError(f"[run] {error}") from error


def _settings(
    content: Mapping[str, Any],
    grid: Mapping[str, Any],
    adaptive: Mapping[str, Any],
    prune: dict[str, Any],
) -> Settings:
    if "adaptive" in content:
        if "grid" in content:
            raise InputError("[grid] and [adaptive] exclude each other: keep one of them")
        if "target_epsilon" not in adaptive:
            raise InputError(
                f"[adaptive] target_epsilon: is missing, must be in (0, 1]; {TARGET_HINT}"
            )
        if "normalize" in prune and prune["normalize"] != "none":
            raise InputError(
                f"[prune] normalize = {prune['normalize']!r}: goes with [grid] only; asked "
                "adaptively, the oracle's rewards have to be on one scale already"
            )
    else:
        for key, hint in (("mu", MU_HINT), ("alpha", ALPHA_HINT)):
            if key not in grid:
                raise InputError(
                    f"[grid] {key}: is missing, must be in (0, 1]; {hint} (or use [adaptive])"
                )
    renamed = {PRUNE_NAMES.get(key, key): value for key, value in prune.items()}
    return Settings(**grid, **adaptive, **renamed)


def _known(given: Mapping[str, Any], accepted: Mapping[str, Any], where: str, kind: str) -> None:
    for name in given:
        if name in accepted:
            continue
        ask = did_you_mean(name, accepted) or f"; must be one of {', '.join(accepted)}"
        raise InputError(f"{where}{name}: unknown {kind}{ask}")


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return dict(json.loads(json.dumps(options, allow_nan=False)))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"[oracle]: options must be plain finite values: {error}") from error


def _number(hint: str = "", **limits: float) -> Callable[[Any, str], float]:
    def read(value: Any, name: str) -> float:
        if isinstance(value, str):  # "8/30", as the paper writes its parameters
            try:
                value = read_number(value)
            except (ValueError, ZeroDivisionError):
                raise InputError(f"{name} = {value!r}: must be a number or a fraction") from None
        return check_number(value, name=name, hint=hint, **limits)

    return read


def _choice(accepted: tuple[str, ...]) -> Callable[[Any, str], str]:
    return lambda value, name: check_choice(value, accepted, name=name)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value:
        raise InputError(f"{name} = {value!r}: must be text")
    return value


def _count(least: int) -> Callable[[Any, str], int]:
    return lambda value, name: check_count(value, name=name, least=least)


_TABLES: dict[str, dict[str, Callable[[Any, str], Any]] | None] = {
    "oracle": None,
    "study": None,
    "grid": {
        "mu": _number(MU_HINT, above=0.0, most=1.0),
        "alpha": _number(ALPHA_HINT, above=0.0, most=1.0),
    },
    "adaptive": {
        "target_epsilon": _number(TARGET_HINT, above=0.0, most=1.0),
        "max_calls": _count(1),
    },
    "prune": {
        "mu": _number(least=0.0, most=1.0),
        "alpha": _number(least=0.0),
        "method": _choice(METHODS),
        "solver": _choice(SOLVERS),
        "time_limit": _number(above=0.0),
        "normalize": _choice(NORMALIZATIONS),
    },
    "run": {
        "seed": _count(0),
        "executor": _choice(EXECUTORS),
        "workers": _count(1),
        "threads": _count(1),
        "timeout": _number(above=0.0),
        "retries": _count(0),
        "batch": _count(1),
        "address": _text,
        "num_cpus": _number(least=0.0),
        "num_gpus": _number(least=0.0),
    },
}
