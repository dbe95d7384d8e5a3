"""What is printed in rare cases, and what is refused: each line, and the way not to it."""

from __future__ import annotations

import dataclasses
import io
import math
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from command_rules import palm

import palm_core
from palm_core import Certificate, Execution, InputError
from palm_core.cli.output import show
from palm_core.model.results import Missing
from palm_core.oracles.registry import _ORACLE
from palm_core.oracles.task_table import parse_npz, read_task
from palm_core.plugin import (
    check_new_file,
    check_oracle,
    check_output_folder,
    number_text,
    output,
    percent_text,
)
from palm_core.run.config import parse_task
from palm_core.run.run import find_runs
from palm_core.tables.read import parse_table, read_npy, read_npz


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(None, 2, "—"), (np.inf, 2, "unbounded"), (0.5, 0, "50 %"), (1e-6, 2, "0.0001 %")],
)
def test_percent(value: float | None, digits: int, text: str) -> None:
    assert percent_text(value, digits) == text


def test_numbers_and_durations() -> None:
    assert number_text(0) == "0"
    assert number_text(2e6) == "2000000"
    assert number_text(1234.5678) == "1235"
    assert [output.duration(s) for s in (0, 3605, 5400, 90061)] == [
        "0 s",
        "1 h",
        "1 h 30 min",
        "1 d 1 h",
    ]


class TestExecution:
    @pytest.mark.parametrize(
        ("options", "told"),
        [
            ({"executor": "cluster"}, "executor = 'cluster': must be one of"),
            ({"executor": "ray", "address": ""}, "address = '': must be the address"),
            ({"address": "head:1"}, "address = 'head:1': requires executor = 'ray'"),
            ({"executor": "here", "workers": 2}, "workers = 2: must be 1"),
            ({"executor": "here", "timeout": 1.0}, "cannot interrupt a call"),
        ],
    )
    def test_what_does_not_go_together(self, options: dict[str, object], told: str) -> None:
        with pytest.raises(InputError, match=told):
            Execution(**options)

    def test_an_address_of_a_cluster(self) -> None:
        assert Execution(executor="ray", address="head:1").address == "head:1"

    def test_more_devices_than_there_are(self) -> None:
        execution = Execution(workers=2, num_gpus=1.0)
        assert execution.devices(1, "4, 7") == "7"
        with pytest.raises(InputError, match="num_gpus"):
            execution.devices(1, "4")


class TestFolders:
    def test_what_is_there_or_can_be_made(self, tmp_path: Path) -> None:
        check_output_folder(tmp_path)
        check_output_folder(tmp_path / "a" / "b")
        assert not (tmp_path / "a").exists()

    def test_a_file_in_the_way(self, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.touch()
        with pytest.raises(InputError, match="--out .*file: is a file, must be a folder"):
            check_output_folder(file)
        with pytest.raises(InputError, match="--out .*x: .*file is a file"):
            check_output_folder(file / "x")

    def test_one_that_may_not_be_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "access", lambda *_: False)
        with pytest.raises(InputError, match="--out .* not writable"):
            check_output_folder(tmp_path)

    def test_a_name_that_is_too_long(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="--out .*nnn: cannot be created"):
            check_output_folder(tmp_path / ("n" * 300))

    def test_a_folder_where_a_file_is_written(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="is a folder, must be a file"):
            check_new_file(tmp_path, "--save", "page", b"")

    def test_too_many_to_look_for_runs_in(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("palm_core.run.run.MOST_FOLDERS", 2)
        for name in "abc":
            (tmp_path / name).mkdir()
        with pytest.raises(InputError, match="more than 2 folders"):
            find_runs(tmp_path)


class TestSelect:
    @pytest.fixture(autouse=True)
    def table(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("t.csv").write_text("model,q,p\na,1,0\nb,0.5,-1\nc,2,-5\n")

    def test_one_is_enough(self) -> None:
        told = palm("select", "t.csv", "--maximize", "q", "p", "--epsilon", "1").out
        assert told.startswith("1 of 3 models is enough")
        assert "No " not in told
        assert "scaled to 0–1" in told

    def test_no_share_of_what_is_not_positive(self) -> None:
        told = palm("select", "t.csv", "--maximize", "q", "p", "--normalize", "none").out
        assert "no loss at all" in told
        assert "—: without it there is a loss where" in told
        assert "scaled" not in told

    def test_a_tolerance_as_an_amount(self) -> None:
        options = ("--normalize", "none", "--delta", "2")
        told = palm("select", "t.csv", "--maximize", "q", "p", *options).out
        assert "1 % plus 2 of the best" in told
        assert "units of score" in told
        alone = palm("select", "t.csv", "--maximize", "q", "p", *options, "--epsilon", "0").out
        assert "units of score" in alone


class TestShow:
    @pytest.fixture
    def portfolio(self) -> palm_core.Portfolio:
        oracle = palm_core.load_oracle("tabular", objectives=["a", "b"], prompts=2, responses=10)
        return palm_core.build_portfolio(oracle, mu=0.5, alpha=0.5, prune_mu=0.05)

    def shown(self, portfolio: palm_core.Portfolio, capsys: pytest.CaptureFixture[str]) -> str:
        show(portfolio)
        return capsys.readouterr().out

    def test_not_proven_and_nothing_certified(
        self, portfolio: palm_core.Portfolio, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert portfolio.pruning is not None
        assert portfolio.gaps is not None
        pruning = dataclasses.replace(portfolio.pruning, status="feasible", n_negative=3)
        gaps = dataclasses.replace(portfolio.gaps, epsilon=math.inf)
        told = self.shown(
            dataclasses.replace(portfolio, pruning=pruning, gaps=gaps, certificate=None), capsys
        )
        assert "are needed (proven)" in told
        assert "no finite ε" in told
        assert "At 3 of" in told
        assert "Against every policy there is" not in told

    @pytest.mark.parametrize("certified", [True, False])
    @pytest.mark.parametrize("weights", [[1.0, 0.0], [0.5, 0.5]])
    def test_weights_without_an_answer(
        self,
        portfolio: palm_core.Portfolio,
        capsys: pytest.CaptureFixture[str],
        weights: list[float],
        certified: bool,
    ) -> None:
        one = Missing(weights=weights, attempts=3, kind="died", message="out of memory")
        record = Certificate(epsilon=0.1, delta=0.1, statement="certified ε 10 %")
        told = self.shown(
            dataclasses.replace(
                portfolio, missing=(one,) * 9, certificate=record if certified else None
            ),
            capsys,
        )
        assert "9 weights have no answer" in told
        assert "more" in told
        assert ("does without them" in told) is certified
        assert ("Nothing is certified" in told) is (not certified and weights[0] == 1.0)


class TestFunctions:
    """Functions by name, as rewards and metrics are."""

    def test_of_a_module_beside_the_task_or_here(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "mine_here.py").write_text(
            "def score():\n    return 7\n\nclass No:\n    pass\n"
        )
        assert _ORACLE.load_function("mine_here:score", tmp_path, "() -> int")() == 7
        monkeypatch.chdir(tmp_path)
        assert _ORACLE.load_function("mine_here:score", None, "() -> int")() == 7
        with pytest.raises(InputError, match=r"is of type type: must be a function \(\) -> int"):
            _ORACLE.load_function("mine_here:No", None, "() -> int")

    def test_of_an_entry_point(self) -> None:
        found = _ORACLE.load_function("tabular", None, "() -> oracle")
        assert found.__module__ == "palm_core.oracles.tabular"


class TestFiles:
    def test_a_matrix_has_two_axes(self) -> None:
        stream = io.BytesIO()
        np.save(stream, np.zeros(3))
        with pytest.raises(InputError, match="must hold a matrix"):
            parse_table(stream.getvalue(), ".npy", "x.npy")

    def test_two_arrays_of_one_name(self) -> None:
        array, stream = io.BytesIO(), io.BytesIO()
        np.save(array, np.zeros(3))
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("a.npy", array.getvalue())
            archive.writestr("a", array.getvalue())
        with pytest.raises(InputError, match="duplicate array 'a'"):
            read_npz(stream.getvalue(), "x.npz", most=10_000)

    def test_a_version_of_the_format_that_is_not_known(self) -> None:
        array = io.BytesIO()
        np.save(array, np.zeros(3))
        data = bytearray(array.getvalue())
        data[6] = 9
        with pytest.raises(InputError, match="is not supported"):
            read_npy(bytes(data), "x.npy")

    def test_truth_is_no_number(self) -> None:
        table = parse_table(b'[{"m": "a", "x": true}, {"m": "b", "x": false}]', ".json", "t.json")
        with pytest.raises(InputError, match="'x'"):
            table.policies(maximize=["x", "m"])

    def test_objectives_are_a_list_of_names(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="must be a list of names"):
            read_task(tmp_path / "t.npz", objectives="kind")
        stream = io.BytesIO()
        np.savez(stream, rewards=np.zeros((2, 3, 2)), reference=np.full((2, 3), 1 / 3))
        with pytest.raises(InputError, match="must be names"):
            parse_npz(stream.getvalue(), "t.npz", ["kind", ""])

    def test_text_where_text_is_asked(self) -> None:
        task = {"oracle": {"name": "tabular"}, "grid": {"mu": 0.5, "alpha": 0.5}}
        with pytest.raises(InputError, match="address = 5: must be text"):
            parse_task({**task, "run": {"address": 5, "executor": "ray"}})
        run = parse_task({**task, "run": {"address": "head:1", "executor": "ray"}})
        assert run.execution.address == "head:1"


def test_objectives_are_shown_so_they_must_be_plain() -> None:
    class Oracle:
        objectives = ("kind", "br\x1bief")

        def solve(self, weights: object) -> object:
            raise NotImplementedError

    with pytest.raises(InputError, match=r"oracle\.objectives"):
        check_oracle(Oracle())
