from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palm_core import InputError, PalmWarning
from palm_core.plugin import Grid, PruneSettings, Settings, changed_fields, load_task
from palm_core.run.config import parse_task, task_hash

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
        asked=Grid(mu=8 / 30, alpha=0.2),
        pruning=PruneSettings(
            mu=0.05, method="exact", solver="cbc", time_limit=10, normalize="minmax"
        ),
    )
    assert (task.seed, task.folder) == (3, tmp_path)


def test_pruning_takes_the_grids_mu_as_algorithm_1_does() -> None:
    given = {"oracle": {"name": "x"}, "grid": {"mu": 0.5, "alpha": 0.1}}
    task = parse_task(given | {"prune": {"method": "greedy"}})
    assert (task.settings.pruning.mu, task.settings.pruning.alpha) == (0.5, 0.0)


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
    with pytest.raises(InputError, match="is a folder, must be"):
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
    prune = {"mu": prune_mu, "alpha": prune_alpha, "method": method, "solver": solver}
    settings = Settings.read({"grid": {"mu": mu, "alpha": alpha}, "prune": prune})
    assert Settings.from_tables(settings.tables()) == settings


@pytest.mark.parametrize(
    "broken", [{}, {"grid": {}}, {"grid": {"mu": 1, "alpha": 1}}, {"grid": 1, "prune": 2}]
)
def test_tables_that_are_none(broken: dict[str, object]) -> None:
    with pytest.raises(InputError, match="the stored task cannot be read"):
        Settings.from_tables(broken)


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("grid", "mu", 0.0),
        ("grid", "alpha", 2.0),
        ("prune", "epsilon", 1.1),
        ("prune", "delta", -1.0),
        ("prune", "mu", -0.1),
        ("prune", "alpha", -1.0),
        ("prune", "method", "best"),
        ("prune", "solver", "x"),
        ("prune", "time_limit", 0.0),
        ("prune", "normalize", "z"),
    ],
)
def test_settings_outside_their_range(table: str, key: str, value: object) -> None:
    tables = {"grid": {"mu": 0.5, "alpha": 0.5}, "prune": {}}
    tables[table][key] = value
    with pytest.raises(InputError, match=rf"^\[{table}\] {key} = "):
        Settings.read(tables)


class TestTolerance:
    """Of one kind: at every weight epsilon and delta, at the weights asked mu and alpha."""

    GRID: ClassVar = {"grid": {"mu": 0.5, "alpha": 0.5}}

    @pytest.mark.parametrize("first", ["epsilon", "delta"])
    @pytest.mark.parametrize("second", ["mu", "alpha"])
    def test_both_are_refused(self, first: str, second: str) -> None:
        with pytest.raises(InputError, match=rf"\[prune\] {first} and \[prune\] {second}"):
            Settings.read({**self.GRID, "prune": {first: 0.1, second: 0.1}})

    @pytest.mark.parametrize("key", ["epsilon", "delta"])
    @pytest.mark.parametrize("method", ["greedy", "exact"])
    def test_of_every_weight_with_a_cover_is_refused(self, key: str, method: str) -> None:
        with pytest.raises(InputError, match=rf"\[prune\] {key} = 0.1"):
            Settings.read({**self.GRID, "prune": {key: 0.1, "method": method}})

    @pytest.mark.parametrize(("old", "new"), [("mu", "epsilon"), ("alpha", "delta")])
    @pytest.mark.parametrize("method", [{}, {"method": "minimal"}])
    def test_the_old_name_warns(self, old: str, new: str, method: dict[str, str]) -> None:
        with pytest.warns(PalmWarning, match=rf"\[prune\] {old}.*{new}"):
            found = Settings.read({**self.GRID, "prune": {old: 0.125, **method}})
        assert found == Settings.read({**self.GRID, "prune": {new: 0.125}})

    def test_a_stored_task_of_an_earlier_version(self) -> None:
        prune = {"mu": 0.1, "alpha": 0.0, "method": "minimal", "solver": None, "time_limit": 60.0}
        old = Settings.from_tables({**self.GRID, "prune": {**prune, "normalize": "none"}})
        assert old == Settings.read({**self.GRID, "prune": {"epsilon": 0.1}})

    @pytest.mark.parametrize(
        ("before", "given", "after"),
        [
            ({"epsilon": 0.1}, {"epsilon": 0.2}, {"epsilon": 0.2}),
            ({"epsilon": 0.1}, {"delta": 0.2}, {"epsilon": 0.1, "delta": 0.2}),
            ({"epsilon": 0.1}, {"method": "exact"}, {"mu": 0.5, "method": "exact"}),
            ({"epsilon": 0.1}, {"mu": 0.2, "method": "greedy"}, {"mu": 0.2, "method": "greedy"}),
            ({"mu": 0.1, "method": "greedy"}, {"epsilon": 0.2}, {"epsilon": 0.2}),
            ({"mu": 0.1, "method": "greedy"}, {"mu": 0.2}, {"mu": 0.2, "method": "greedy"}),
            ({"mu": 0.1, "method": "greedy"}, {"method": "minimal"}, {"epsilon": 0.05}),
            ({"mu": 0.1, "method": "greedy"}, {"method": "exact"}, {"mu": 0.1, "method": "exact"}),
            ({"epsilon": 0.1}, {"time_limit": 7.0}, {"epsilon": 0.1, "time_limit": 7.0}),
        ],
    )
    def test_changed(self, before: dict, given: dict, after: dict) -> None:
        found = Settings.read({**self.GRID, "prune": before}).with_pruning(given)
        assert found == Settings.read({**self.GRID, "prune": after})
