"""The reference of task files, out of what reads them."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields, is_dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import griffe
from our_docstrings import ROLE

from palm_core.oracles.registry import describe_oracles
from palm_core.run.config import TASK_TABLES, Adaptive, Execution, Grid, PruneSettings, Task
from palm_eval.paper.study import _KEYS, Study

_HEAD = """# Task files

A task file says what is asked of a run. It is TOML; a table or key that is not listed here is
refused by its name. Numbers of `[grid]`, `[adaptive]` and `[prune]` may be fractions, as in
`mu = "8/30"`. Relative paths are relative to the task file.

```toml title="task.toml"
[oracle]
name = "tabular"

[grid]
mu = 0.5
alpha = 0.05
```

Every other key has a default. One of `[grid]` and `[adaptive]` is needed.
"""
_SOURCES: dict[str, Any] = {
    "grid": Grid,
    "adaptive": Adaptive,
    "prune": PruneSettings,
    "run": Execution,
}
_ABOUT = {
    "grid": "The paper's grid of weights.",
    "adaptive": "In place of a grid: ask where the certified gap is largest.",
    "prune": "How few of the policies are kept.",
    "run": "How calls are made. Only `seed` changes what is asked.",
    "study": "What `palm reproduce` compares.",
}


def task_page() -> str:
    """The page: each table with its keys, their defaults and meaning."""
    rows = [_HEAD]
    for table, source in _SOURCES.items():
        told = described(source) | ({"seed": described(Task)["seed"]} if table == "run" else {})
        keys = TASK_TABLES[table]
        assert keys is not None
        rows += [f"## `[{table}]`", "", _ABOUT[table], ""]
        rows += _table({key: key for key in keys}, told, {"seed": "0"} | defaults(source))
    rows += ["## `[study]`", "", _ABOUT["study"], ""]
    rows += _table({key: key for key in _KEYS}, described(Study), {})
    rows += _oracles()
    rows += _rewards()
    return "\n".join(rows) + "\n"


def _oracles() -> list[str]:
    rows = [
        "## `[oracle]`",
        "",
        "`name` is one of the oracles below, one that another package announces (`palm oracles` "
        'lists them), or `"module:factory"` with the module beside the task file. Every other '
        "key goes to that oracle.",
        "",
    ]
    for info in describe_oracles():
        assert info.value, f"{info.distribution} is not installed: its options cannot be shown"
        factory = _imported(info.value)
        told = described(factory)
        given = {"artifact_dir", "work_dir", "run_seed"}
        names = {name: name for name in defaults(factory) if name not in given}
        rows += [f'### `name = "{info.name}"` ({info.distribution})', "", _first(factory), ""]
        rows += _table(names, told, defaults(factory))
    return rows


def _rewards() -> list[str]:
    rows = [
        "## `[oracle.rewards]`",
        "",
        "For the oracles that answer with text: one entry for each objective, the name of a "
        'reward function, a table with its `name` and options, or `"module:function"`.',
        "",
    ]
    for entry in sorted(entry_points(group="palm.rewards"), key=lambda one: one.name):
        factory = _imported(entry.value)
        rows += [f'### `name = "{entry.name}"`', "", _first(factory), ""]
        told = described(factory)
        rows += _table({name: name for name in defaults(factory)}, told, defaults(factory))
    return rows


def _table(names: dict[str, str], told: dict[str, str], values: dict[str, str]) -> list[str]:
    if not names:
        return ["It has no options.", ""]
    rows = ["| key | default | meaning |", "|---|---|---|"]
    for key, name in names.items():
        assert name in told, f"{key} of a task file is not documented"
        default = values.get(name, "")
        rows.append(f"| `{key}` | {f'`{default}`' if default else ''} | {told[name]} |")
    return [*rows, ""]


def described(found: Any) -> dict[str, str]:
    """The parameters that a docstring describes, by name; those of a class's bases, too."""
    texts = (
        [one.__doc__ for one in reversed(inspect.getmro(found))]
        if inspect.isclass(found)
        else [found.__doc__]
    )
    told: dict[str, str] = {}
    for text in texts:
        told |= described_in(inspect.cleandoc(text or ""))
    return told


def described_in(text: str) -> dict[str, str]:
    """The parameters and attributes that the text of a docstring describes, by name."""
    told = {}
    kinds = (griffe.DocstringSectionKind.parameters, griffe.DocstringSectionKind.attributes)
    for section in griffe.Docstring(text).parse("google", warnings=False):
        for one in section.value if section.kind in kinds else ():
            meaning = " ".join(one.description.split()).replace("|", "\\|")
            meaning = ROLE.sub(lambda found: f"`{found[2]}`", meaning)
            told |= {name.strip(): meaning for name in one.name.split(",")}
    return told


def defaults(found: Any) -> dict[str, str]:
    """The parameters and their defaults; "" for one that is needed or whose default is made."""
    made = {f.name: f.default_factory for f in fields(found)} if is_dataclass(found) else {}
    values = {}
    for name, one in inspect.signature(found).parameters.items():
        value = one.default
        if made.get(name, MISSING) is not MISSING:
            value = made[name]()
        plain = value is None or value is one.empty
        values[name] = "" if plain or value == () else _toml(value)
    return values


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def _first(found: Any) -> str:
    text = " ".join((inspect.getdoc(found) or "").split("\n\n")[0].split())
    return ROLE.sub(lambda role: f"`{role[2]}`", text)


def _imported(value: str) -> Any:
    module, _, name = value.partition(":")
    return getattr(import_module(module), name)
