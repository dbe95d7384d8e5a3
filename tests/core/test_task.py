from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palm_core import InputError
from palm_core.run.config import Settings, changed_fields, load_task, parse_task, task_hash

FULL = """
[oracle]
name = "tabular"
beta = 0.1
[grid]
mu = "8/30"
alpha = 0.2
[prune]
mu = 0.05
method = "exact"
solver = "cbc"
time_limit = 10
normalize = "minmax"
[run]
seed = 3
"""


def test_a_full_task(tmp_path: Path) -> None:
    file = tmp_path / "t.toml"
    file.write_text(FULL)
    task = load_task(file)
    assert task.oracle == "tabular"
    assert task.options == {"beta": 0.1}
    assert task.settings == Settings(
        mu=8 / 30,
        alpha=0.2,
        prune_mu=0.05,
        method="exact",
        solver="cbc",
        time_limit=10,
        normalize="minmax",
    )
    assert (task.seed, task.folder) == (3, tmp_path)


def test_pruning_takes_the_grids_mu_as_algorithm_1_does() -> None:
    given = {"oracle": {"name": "x"}, "grid": {"mu": 0.5, "alpha": 0.1}}
    task = parse_task(given | {"prune": {"method": "greedy"}})
    assert task.settings.prune_mu == 0.5
    assert task.settings.prune_alpha == 0.0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[grid]\nalpha = 1.5", r"^t\.toml \[grid\] alpha = 1\.5: must be in \(0, 1\]; 0\.2 means"),
        ("[grid]\nalpha = 0", "alpha = 0: must be in"),
        ("[grid]\nmu = -0.1", "mu = -0.1: must be in"),
        ("[grid]\nmu = nan", "mu = nan: must be in"),
        ("[grid]\nmu = '1/0'", "mu = '1/0': must be a number or a fraction"),
        ("[grid]\nmu = true", "mu = True: must be in"),
        ("[grid]\nmuu = 0.1", r"\[grid\] muu: unknown key; did you mean 'mu'"),
        ("[prune]\nmethod = 'gready'", "method = 'gready': must be one of minimal, greedy, exact"),
        ("[prune]\nsolver = 'cplex'", "solver = 'cplex': must be one of cbc, highs"),
        ("[prune]\ntime_limit = 0", "time_limit = 0: must be a finite number above 0"),
        ("[run]\nseed = -1", "seed = -1: must be at least 0"),
        ("[run]\nseed = 1.5", "seed = 1.5: must be a whole number"),
        ("[runs]\nseed = 1", "runs: unknown table; did you mean 'run'"),
        ("grid = 3", r"\[grid\] = 3: must be a table"),
        ("[oracle]\nname = 3", r"\[oracle\] name = 3: must be the name"),
        ("[oracle]\nbeta = 3", r"\[oracle\] name: is missing"),
        ("[oracle]\nname = 'x'\nbeta = inf", "must be plain finite values"),
        ("[grid]\nmu = 0.5", r"\[grid\] alpha: is missing"),
        ("mu = ", "is not TOML"),
        ("[" * 5000, "is not TOML"),
    ],
)
def test_bad_tasks_are_refused_in_one_line(tmp_path: Path, line: str, message: str) -> None:
    tables = {"oracle": '[oracle]\nname = "x"\n', "grid": "[grid]\nmu = 0.5\nalpha = 0.1\n"}
    kept = "".join(
        text for name, text in tables.items() if f"[{name}]" not in line and f"{name} =" not in line
    )
    if "[grid]" in line and "mu" in line and "alpha" not in line and line != "[grid]\nmu = 0.5":
        line += "\nalpha = 0.1"
    elif line.startswith("[grid]\nalpha"):
        line += "\nmu = 0.5"
    file = tmp_path / "t.toml"
    file.write_text(line + "\n" + kept)
    with pytest.raises(InputError, match=message) as caught:
        load_task(file)
    assert "\n" not in str(caught.value)


def test_places_that_are_not_tasks(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a directory"):
        load_task(tmp_path)
    with pytest.raises(InputError, match="no such task file"):
        load_task(tmp_path / "none.toml")
    (tmp_path / "t.toml").write_bytes(b"\xff")
    with pytest.raises(InputError, match="is not TOML"):
        load_task(tmp_path / "t.toml")


def test_the_hash_is_of_the_meaning_not_of_the_writing() -> None:
    one = {"oracle": {"name": "x", "beta": 0.1}, "grid": {"mu": 0.5}}
    two = {"grid": {"mu": 0.5}, "oracle": {"beta": 0.1, "name": "x"}}
    assert task_hash(one) == task_hash(two)
    assert task_hash(one) != task_hash({**one, "grid": {"mu": 0.25}})


def test_changes_are_named_with_both_values() -> None:
    old = {"oracle": {"name": "x", "lr": 5e-4}, "grid": {"mu": 0.5}}
    new = {"oracle": {"name": "x", "lr": 1e-3, "steps": 3}, "grid": {"mu": 0.5}}
    assert changed_fields(old, new) == [
        "[oracle] lr was 0.0005, is 0.001",
        "[oracle] steps was not set, is 3",
    ]


@given(
    st.floats(1e-3, 1),
    st.floats(1e-3, 1),
    st.floats(0, 1),
    st.floats(0, 5),
    st.sampled_from(["greedy", "exact"]),
    st.sampled_from([None, "cbc", "highs"]),
)
def test_settings_survive_their_tables(
    mu: float, alpha: float, prune_mu: float, prune_alpha: float, method: str, solver: str | None
) -> None:
    settings = Settings(
        mu=mu,
        alpha=alpha,
        prune_mu=prune_mu,
        prune_alpha=prune_alpha,
        method=method,
        solver=solver,
    )
    assert Settings.from_tables(settings.tables()) == settings


@pytest.mark.parametrize(
    "broken", [{}, {"grid": {}}, {"grid": {"mu": 1, "alpha": 1}}, {"grid": 1, "prune": 2}]
)
def test_tables_that_are_none(broken: dict[str, object]) -> None:
    with pytest.raises(InputError, match="the stored task cannot be read"):
        Settings.from_tables(broken)


def test_settings_check_themselves() -> None:
    good = Settings(mu=0.5, alpha=0.5, prune_mu=0.0)
    for change in (
        {"mu": 0.0},
        {"alpha": 2.0},
        {"prune_mu": -0.1},
        {"prune_alpha": -1.0},
        {"method": "best"},
        {"solver": "x"},
        {"time_limit": 0.0},
        {"normalize": "z"},
    ):
        with pytest.raises(InputError, match=f"^{next(iter(change))} = "):
            dataclasses.replace(good, **change)
