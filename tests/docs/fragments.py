"""Blocks that are neither run nor written to a file: data that still has to be read."""

from __future__ import annotations

import csv
import inspect
import io
import json
import tomllib
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from palm_core.oracles.registry import _ORACLE, _installed, importable
from palm_core.run.config import parse_task

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_PROJECT = {"build-system", "project", "tool", "dependency-groups"}
_GRID = {"mu": 0.5, "alpha": 0.1}


def check_json(code: str) -> None:
    json.loads(code)


def check_jsonl(code: str) -> None:
    for line in code.splitlines():
        json.loads(line)


def check_csv(code: str) -> None:
    rows = list(csv.reader(io.StringIO(code)))
    assert len({len(row) for row in rows}) == 1, "the rows are not of one length"


def check_toml(code: str, oracle: str, folder: Path) -> str:
    """A part of a task file, or of a package's: every table and key is one that is read.

    Args:
        code: of the block.
        oracle: what the tasks of this page name so far; "" where they named none.
        folder: of the page, where a module of an oracle may be.

    Returns:
        The oracle that tasks of this page name from here on.
    """
    content = tomllib.loads(code)
    if content.keys() & _PROJECT:
        assert content.keys() <= _PROJECT, f"not of a pyproject.toml: {content.keys() - _PROJECT}"
        return oracle
    oracle = content.get("oracle", {}).get("name", oracle)
    whole: dict[str, Any] = {name: dict(table) for name, table in content.items()}
    options = whole.setdefault("oracle", {})
    options.setdefault("name", oracle or "tabular")
    if "adaptive" in whole:
        whole["adaptive"].setdefault("target_epsilon", 0.1)
    else:
        whole["grid"] = _GRID | whole.get("grid", {})
    task = parse_task(whole)
    if task.study:
        from palm_eval.paper.study import study_of

        study_of(task, "a task")
    if task.options:
        assert oracle, "[oracle] without a name, and no block before it on this page names one"
        _check_options(oracle, task.options, folder)
    return oracle


def _check_options(oracle: str, options: dict[str, Any], folder: Path) -> None:
    if ":" in oracle:
        with importable(folder):
            factory = _ORACLE.import_named(oracle, folder)
    else:
        factory = _installed(oracle)
    _check_names(f"[oracle] of {oracle}", options, factory)
    if is_dataclass(factory) and "trainer" in options:
        from trl import GRPOConfig

        known = {field.name for field in fields(GRPOConfig)}
        _check_known("[oracle.trainer]", options["trainer"], known)
    for objective, given in options.get("rewards", {}).items():
        _check_reward(objective, given)


def _check_reward(objective: str, given: Any) -> None:
    from palm_eval import available_rewards
    from palm_eval.rewards.registry import _REWARD

    table = {"name": given} if isinstance(given, str) else dict(given)
    name = table.pop("name", "")
    if ":" in name:
        return  # a function of somebody's own, in a module that the page does not show
    _check_known(f"rewards.{objective} name", [name], available_rewards())
    if table:
        _check_names(f"rewards.{objective}", table, _REWARD.load(name))


def _check_names(where: str, given: Iterable[str], factory: Any) -> None:
    parameters = inspect.signature(factory).parameters
    if not any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        _check_known(where, given, parameters)


def _check_known(where: str, given: Iterable[str], known: Iterable[str]) -> None:
    unknown = set(given) - set(known)
    assert not unknown, f"{where}: unknown {sorted(unknown)}; known are {sorted(known)}"
