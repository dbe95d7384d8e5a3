"""Metrics by name: ours against the definitions, one's own, and what is refused."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from palm_command import run as palm

from palm_core import (
    InputError,
    PluginError,
    Policy,
    PolicySet,
    WorkError,
    build_portfolio,
    gaps,
    load_oracle,
    sample_weights,
)
from palm_core.oracles import registry as _entry_points
from palm_eval import available_metrics, load_metric, metric_plugins
from palm_eval.metric_plugins import metric_value
from palm_eval.testing import check_metric

OURS = (
    "delta",
    "epsilon",
    "exact_perplexity",
    "expected_utility",
    "hypervolume",
    "maximum_utility_loss",
    "perplexity",
    "sampled_delta",
    "sampled_epsilon",
)
OWN = """
import numpy as np

def regret(portfolio, candidates, weights):
    return (candidates.objective(weights).max(1) - portfolio.objective(weights).max(1)).mean()

def size(portfolio, candidates, weights):
    return len(portfolio)

def nothing(portfolio, candidates, weights):
    return float("nan")

def breaks(portfolio, candidates, weights):
    return {}["no such\\nkey"]

def refuses(portfolio, candidates, weights):
    return portfolio.objective([2.0, 2.0])

def writes(portfolio, candidates, weights):
    weights[0] = 0
    return 1.0

class Kind:
    pass

number = 3
"""


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The group's entry points: ours, and one that must not be imported to be listed."""
    real, group = _entry_points.entry_points, "palm.metrics"
    found = [EntryPoint(name, f"palm_eval.metric_plugins:{name}", group) for name in OURS]
    found.append(EntryPoint("explosive", "antigravity_metrics:boom", group))
    found.append(EntryPoint("kind", "decimal:Decimal", group))
    monkeypatch.setattr(
        _entry_points,
        "entry_points",
        lambda *, group: found if group == "palm.metrics" else real(group=group),
    )


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_metrics_here.py").write_text(OWN)
    yield tmp_path
    sys.modules.pop("own_metrics_here", None)


def front(d: int) -> tuple[PolicySet, PolicySet, np.ndarray]:
    rng = np.random.default_rng(d)
    rewards, regularizer = np.sqrt(rng.dirichlet(np.ones(d), 9)) + 0.1, rng.random(9) / 20
    candidates = PolicySet(rewards, regularizer)
    return candidates.subset([2, 5, 7]), candidates, sample_weights(200, d, seed=4)


def by_hand(d: int) -> dict[str, float]:
    portfolio, candidates, weights = front(d)
    ours = portfolio.objective(weights)
    lost = candidates.objective(weights).max(axis=1) - ours.max(axis=1)
    shares = np.bincount(ours.argmax(axis=1)) / len(weights)
    worst = candidates.vertex_values.min(axis=0)
    many = sample_weights(200_000, d, seed=9)
    exact = np.bincount(portfolio.objective(many).argmax(axis=1)) / len(many)
    # Monte Carlo where the metric is exact
    points = worst + np.random.default_rng(1).random((200_000, d)) * (
        portfolio.vertex_values.max(axis=0) - worst
    )
    under = (points[:, None] <= portfolio.vertex_values).all(axis=2).any(axis=1).mean()
    found = gaps(portfolio, candidates)
    return {
        "epsilon": found.epsilon,
        "delta": found.delta,
        "maximum_utility_loss": found.delta,
        "sampled_delta": lost.max(),
        "sampled_epsilon": (lost / candidates.objective(weights).max(axis=1)).max(),
        "perplexity": math.prod(share**-share for share in shares),
        "exact_perplexity": math.prod(share**-share for share in exact),
        "expected_utility": portfolio.objective(many).max(axis=1).mean(),
        "hypervolume": under * np.prod(portfolio.vertex_values.max(axis=0) - worst),
    }


@pytest.mark.parametrize("d", [2, 3])
def test_ours_are_their_definitions(d: int, entries: None) -> None:
    for name, expected in by_hand(d).items():
        value = metric_value(name, load_metric(name), *front(d))
        sampled = name in ("exact_perplexity", "expected_utility", "hypervolume")
        assert value == pytest.approx(expected, rel=0.02 if sampled else 1e-9), name
        assert value != pytest.approx(0, abs=1e-3), name


@pytest.mark.parametrize("name", OURS)
def test_ours_keep_the_rules(name: str) -> None:
    check_metric(getattr(metric_plugins, name))


def test_what_is_installed_is_what_there_is() -> None:
    public = {
        name
        for name, value in vars(metric_plugins).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == metric_plugins.__name__
    }
    assert public == {*OURS, "available_metrics", "load_metric", "metric_value"}


def test_listing_imports_none(entries: None) -> None:
    assert available_metrics() == tuple(sorted([*OURS, "explosive", "kind"]))
    assert "antigravity_metrics" not in sys.modules
    with pytest.raises(PluginError, match="'explosive' is installed but does not import: No mod"):
        load_metric("explosive")


def test_listing_and_loading_our_own_needs_no_heavy_library() -> None:
    code = (
        "import sys, palm_eval.metric_plugins as m\n"
        "m.available_metrics()\n"
        "assert not {'torch', 'transformers', 'matplotlib', 'moocore'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_where_no_multiplicative_gap_is_defined_it_is_said() -> None:
    portfolio, candidates = PolicySet([[-2.0, 1.0]]), PolicySet([[-2.0, 1.0], [-1.0, 0.5]])
    weights = np.array([[1.0, 0.0], [0.5, 0.5]])
    for name in ("epsilon", "sampled_epsilon"):
        with pytest.raises(WorkError, match=rf"metric '{name}': the best value at "):
            metric_value(name, getattr(metric_plugins, name), portfolio, candidates, weights)
    assert metric_plugins.delta(portfolio, candidates, weights) == pytest.approx(1.0)


def test_volumes_are_for_two_and_three_objectives() -> None:
    with pytest.raises(InputError, match="metric 'exact_perplexity': 4 objectives, volumes are"):
        metric_value("exact_perplexity", metric_plugins.exact_perplexity, *front(4))
    assert metric_value("perplexity", metric_plugins.perplexity, *front(4)) > 1


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (math.nan, "nan"),
        (math.inf, "inf"),
        ("1.0", "'1.0'"),
        (None, "None"),
        (True, "True"),
        (np.zeros(2), r"array\(\[0., 0.\]\)"),
        (1j, "1j"),
        ("x" * 999, "'xxx"),
    ],
)
def test_what_is_no_finite_number_is_refused(given: Any, shown: str) -> None:
    with pytest.raises(
        WorkError, match=f"metric 'mine' returned {shown}.*must return a f"
    ) as found:
        metric_value("mine", lambda *_: given, *front(2))
    assert len(str(found.value)) < 200
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("given", [1, 2.5, np.float32(0.5), np.int64(3)])
def test_what_is_a_finite_number_is_taken(given: Any) -> None:
    value = metric_value("mine", lambda *_: given, *front(2))
    assert value == given
    assert type(value) is float


class TestOnesOwn:
    def test_it_is_used_as_it_is(self, here: Path) -> None:
        metric = load_metric("own_metrics_here:size")
        assert metric is sys.modules["own_metrics_here"].size
        assert metric_value("size", metric, *front(2)) == 3

    @pytest.mark.parametrize(
        ("name", "error", "message"),
        [
            ("own_metrics_here:breaks", WorkError, "failed: KeyError: 'no such"),
            ("own_metrics_here:refuses", InputError, ": weights"),
            ("own_metrics_here:writes", WorkError, "failed: ValueError: assignment destination is"),
            ("own_metrics_here:nothing", WorkError, "returned nan, must return a finite number"),
        ],
    )
    def test_what_fails_is_named(
        self, here: Path, name: str, error: type[Exception], message: str
    ) -> None:
        portfolio, candidates, weights = front(2)
        before = weights.copy()
        with pytest.raises(error, match=f"metric '{name}'.*{message}") as found:
            metric_value(name, load_metric(name), portfolio, candidates, weights)
        assert "\n" not in str(found.value)
        assert np.array_equal(weights, before)
        assert weights.flags.writeable

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("hypervolum", "unknown metric 'hypervolum'; installed: .*Did you mean 'hypervolume'"),
            ("zzz", "a metric of your own is named 'module:function'"),
            ("kind", "metric 'kind' is of type type: must be a function"),
            ("own_metrics_here:number", "is of type int: must be a function"),
            ("own_metrics_here:Kind", "is of type type: must be a function"),
            ("own_metrics_here:sizes", "no attribute 'sizes'; did you mean 'size'"),
            ("own_metrics_gone:size", "there is no module 'own_metrics_gone'"),
            ("own_metrics_here:", "must be a name or 'module:function'"),
            ("", "metric = '': must be a name or 'module:function'"),
        ],
    )
    def test_what_cannot_be_had(self, here: Path, entries: None, name: str, message: str) -> None:
        with pytest.raises(InputError, match=message):
            load_metric(name)


class Command:
    """``palm evaluate`` of a small run."""

    def __init__(self, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.run, self.capsys = run, capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        self.capsys.readouterr()
        code = palm(["evaluate", str(self.run), "--samples", "50", *arguments])
        return (code, *self.capsys.readouterr())


@pytest.fixture
def evaluate(tmp_path: Path, capsys: pytest.CaptureFixture[str], here: Path) -> Command:
    build_portfolio(
        load_oracle("tabular", prompts=5, responses=20),
        mu=0.5,
        alpha=0.2,
        prune_mu=0.05,
        run_dir=tmp_path / "run",
    )
    return Command(tmp_path / "run", capsys)


class TestCommand:
    def test_metrics_are_columns_and_keys(self, evaluate: Command, entries: None) -> None:
        names = ["hypervolume", "delta", "own_metrics_here:size", "own_metrics_here:regret"]
        asked = [part for name in names for part in ("--metric", name)]
        code, out, told = evaluate(*asked, "--json")
        assert code == 0, told
        document = json.loads(out)
        assert list(document["metrics"]) == names
        for one in (document, *document["baselines"].values()):
            assert one["metrics"]["delta"] == pytest.approx(one["delta"], abs=1e-12)
            assert one["metrics"]["hypervolume"] == pytest.approx(one["hypervolume"])
            assert one["metrics"]["own_metrics_here:size"] == one["size"]
            assert 0 <= one["metrics"]["own_metrics_here:regret"] <= one["delta"]
        code, out, _ = evaluate(*asked)
        assert code == 0
        table = out.split("\n\n")[1]
        assert "hypervolume" in table
        row = next(line for line in table.splitlines() if line.strip().startswith("portfolio"))
        assert float(row.split()[-2]) == document["size"]

    def test_without_any_there_are_none(self, evaluate: Command) -> None:
        code, out, _ = evaluate("--json")
        assert code == 0
        assert json.loads(out)["metrics"] == {}

    def test_the_random_baseline_has_the_mean_of_its_runs(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], here: Path
    ) -> None:
        class Quick:
            objectives = ("a", "b")

            def solve(self, weights: np.ndarray) -> Iterator[Policy]:
                for row in weights:
                    yield Policy(id=f"{row[0]:.9f}", weights=row, rewards=np.sqrt(row))

        from palm_core import Run
        from palm_eval import evaluate_run

        build_portfolio(Quick(), mu=0.5, alpha=0.1, prune_mu=0.02, run_dir=tmp_path / "quick")
        seen: list[float] = []

        def metric(portfolio: PolicySet, candidates: PolicySet, weights: np.ndarray) -> float:
            seen.append(float(portfolio.rewards.sum()))
            return seen[-1]

        found = evaluate_run(
            Run.open(tmp_path / "quick"), oracle=Quick(), resamples=100, metrics={"m": metric}
        )
        values = {name: one.metrics["m"] for name, one in found.baselines.items()}
        means = [np.mean(seen[i : i + 3]) for i in range(len(seen) - 2)]
        assert values["random"] == pytest.approx(
            min(means, key=lambda m: abs(m - values["random"]))
        )
        assert values["random"] not in seen

    @pytest.mark.parametrize(
        ("name", "code", "message"),
        [
            ("hypervolum", 2, "Did you mean 'hypervolume'?"),
            ("own_metrics_here:nothing", 1, "metric 'own_metrics_here:nothing' returned nan, must"),
            ("own_metrics_here:breaks", 1, "metric 'own_metrics_here:breaks' failed: KeyError"),
            ("own_metrics_here:refuses", 2, "metric 'own_metrics_here:refuses': weights"),
        ],
    )
    def test_what_goes_wrong_is_one_line(
        self, evaluate: Command, entries: None, name: str, code: int, message: str
    ) -> None:
        found, out, told = evaluate("--metric", name)
        assert found == code
        assert out == ""
        assert told.startswith("palm: ")
        assert told.count("\n") == 1
        assert message in told
