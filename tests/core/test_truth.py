"""The exact reference against enumeration, and what palm_core claims against the reference."""

from __future__ import annotations

import itertools
import json
import math
import signal
from fractions import Fraction

import numpy as np
import pytest
import truth_judges
import truth_run
import truth_speed
from exact_reference import Table, certificate, decimal, value, whole_weights
from truth_instances import FAMILIES, ORDINARY, make

import palm_core as palm

# A few hundred instances, on a schedule a thousand, and `nox -s truth` goes on from there; most
# functions are asked about every third or so.
SEEDS = [range(15), pytest.param(range(15, 45), marks=pytest.mark.scheduled)]
ALWAYS = ("gaps", "violations")
ONE_IN = {"minimal_portfolio": 5, "select_models": 9, "size_gap_curve": 15}


# What is false; at ordinary scale a claim has to be tight as well.
FALSE = ("below", "last bits", "outside", "false proof", "lower bound", "crash", "stuck")
TIGHT = (*FALSE, "loose", "unequal", "weights")


def failures(function, given, family):
    kinds = TIGHT if family in ORDINARY else FALSE
    if function == "minimal_portfolio" and family in ORDINARY:
        kinds += ("open",)
    return [line for line in truth_run.problems(function, given) if line.startswith(kinds)]


@pytest.mark.parametrize("seeds", SEEDS, ids=["some", "more"])
@pytest.mark.parametrize("family", FAMILIES)
def test_no_claim_is_false(family, seeds):
    wrong = []
    for seed in seeds:
        given = make(family, seed)
        for turn, function in enumerate(truth_judges.JUDGES):
            if function in ALWAYS or (seed + turn) % ONE_IN.get(function, 3) == 0:
                found = failures(function, given, family)
                wrong += [f"{function} of {given.name}: {line}" for line in found]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(s, marks=pytest.mark.scheduled) for s in (1, 2, 3))]
)
def test_no_claim_is_false_with_many_objectives(seed):
    wrong = []
    for family in FAMILIES:
        given = make(family, seed, high=True)
        for function in ("gaps", "violations", "minimal_portfolio"):
            found = failures(function, given, family)
            wrong += [f"{function} of {given.name}: {line}" for line in found]
    assert not wrong, "\n".join(wrong)


# -- the reference itself --------------------------------------------------------------------


def solved(rows, right):
    """x with rows·x = right, in Fractions by elimination; ``None`` if singular."""
    n = len(rows)
    table = [[*map(Fraction, row), Fraction(b)] for row, b in zip(rows, right, strict=True)]
    for k in range(n):
        place = next((i for i in range(k, n) if table[i][k] != 0), None)
        if place is None:
            return None
        table[k], table[place] = table[place], table[k]
        table[k] = [x / table[k][k] for x in table[k]]
        for i in range(n):
            if i != k:
                table[i] = [x - table[i][k] * y for x, y in zip(table[i], table[k], strict=True)]
    return [row[n] for row in table]


def arrangement(rows):
    """Every vertex of the cells of Δ on which the rows keep their order and their signs."""
    d = len(rows[0])
    planes = {
        tuple(x - y for x, y in zip(a, b, strict=True)) for a, b in itertools.combinations(rows, 2)
    }
    planes |= {tuple(row) for row in rows} | {
        tuple(int(i == j) for j in range(d)) for i in range(d)
    }
    found = set()
    for some in itertools.combinations(planes, d - 1):
        point = solved([*some, [1] * d], [0] * (d - 1) + [1])
        if point is not None and min(point) >= 0:
            found.add(tuple(point))
    return found


def gaps_by_enumeration(rows, portfolio):
    """(δ, ε): on a cell opt and L are linear, so both suprema are at its vertices."""
    delta, epsilon = Fraction(0), Fraction(0)
    for w in arrangement(rows):
        values = [value(row, w) for row in rows]
        opt, loss = max(values), max(values) - max(values[i] for i in portfolio)
        delta = max(delta, loss)
        if loss > 0:
            epsilon = max(epsilon, loss / opt if opt > 0 else math.inf)
    return delta, epsilon


def small_table(seed):
    rng = np.random.default_rng(seed)
    d = int(rng.integers(2, 5))
    m = int(rng.integers(2, {2: 7, 3: 6, 4: 5}[d]))
    low, high = rng.choice([(-4, 2), (-3, 5), (0, 5), (0, 5)])
    return rng.integers(low, high, (m, d)).tolist(), int(rng.integers(1, m))


@pytest.mark.parametrize("seed", range(60))
def test_gaps_are_those_at_the_vertices_of_the_cells(seed):
    rows, p = small_table(seed)
    table, everyone = Table(rows), range(len(rows))
    delta, epsilon = table.gaps(range(p), everyone)
    assert (delta.value, epsilon.value) == gaps_by_enumeration(rows, range(p))
    loss, _ = truth_judges.loss_at(table, range(p), everyone, delta.weights)
    assert loss == delta.value
    if math.isfinite(epsilon.value):
        loss, opt = truth_judges.loss_at(table, range(p), everyone, epsilon.weights)
        assert loss == epsilon.value * opt


@pytest.mark.parametrize("family", FAMILIES)
def test_no_sample_is_worse_than_the_gaps(family):
    rng = np.random.default_rng(0)
    for seed in range(12):
        given = make(family, seed)
        everyone = range(len(given.values))
        delta, epsilon = given.exact.gaps(given.portfolio, everyone)
        for w in rng.dirichlet(np.ones(given.values.shape[1]), 40):
            loss, opt = truth_judges.loss_at(given.exact, given.portfolio, everyone, w)
            assert loss <= delta.value
            assert loss == 0 or (
                loss <= epsilon.value * opt if opt > 0 else math.isinf(epsilon.value)
            )


@pytest.mark.parametrize("seed", range(60))
def test_the_smallest_set_is_that_of_every_subset(seed):
    rows, _ = small_table(seed)
    table, everyone = Table(rows), range(len(rows))
    rng = np.random.default_rng(seed)
    epsilon, delta = (
        Fraction(int(rng.integers(0, 5)), 4),
        Fraction(int(rng.choice([0, 0, 1, 3])), 2),
    )
    points = list(arrangement(rows))
    values = [[value(row, w) for row in rows] for w in points]
    for w, v in zip(points, values, strict=True):
        whole = math.lcm(*(x.denominator for x in w))
        least = max(v) - epsilon * max(*v, 0) - delta
        covering = sum(1 << i for i in everyone if v[i] >= least)
        assert table.covers([int(x * whole) for x in w], epsilon, delta) == covering
    within = [
        chosen
        for size in range(1, len(rows) + 1)
        for chosen in itertools.combinations(everyone, size)
        if all(max(v[i] for i in chosen) >= max(v) - epsilon * max(*v, 0) - delta for v in values)
    ]
    assert len(table.smallest(epsilon, delta)) == len(within[0])
    for size in range(1, len(rows) + 1):
        for chosen in itertools.combinations(everyone, size):
            assert bool(table.violated(chosen, everyone, epsilon, delta)) == (chosen not in within)
    least = table.least_delta(range(1), everyone, epsilon)
    short = [max(v) - epsilon * max(*v, 0) - v[0] for v in values]
    assert least.value == max(0, *short)


@pytest.mark.parametrize("seed", range(30))
def test_a_certificate_is_the_gap_to_the_least_mixtures(seed):
    rows, _ = small_table(seed)
    d = len(rows[0])
    rng = np.random.default_rng(seed)
    asked = [[Fraction(int(i == j)) for j in range(d)] for i in range(d)]
    asked += [[Fraction(int(x), 8) for x in rng.multinomial(8, np.ones(d) / d)] for _ in range(3)]
    bounds = [max(value(row, w) for row in rows) + int(rng.integers(0, 2)) for w in asked]
    delta, epsilon = certificate(Table(rows), asked, bounds)
    worst, share, signed = Fraction(0), Fraction(0), False
    for w in arrangement(rows):
        mixtures = []
        for some in itertools.combinations(range(len(asked)), d):
            shares = solved(list(zip(*(asked[k] for k in some), strict=True)), w)
            if shares is not None and min(shares) >= 0:
                mixtures.append(sum(x * bounds[k] for x, k in zip(shares, some, strict=True)))
        upper, lower = min(mixtures), max(value(row, w) for row in rows)
        worst, signed = max(worst, upper - lower), signed or lower < 0
        if upper > max(lower, 0):
            share = max(share, (upper - lower) / upper)
    assert delta.value == worst
    assert epsilon.value == (math.inf if signed and worst else share)


def test_floats_are_read_exactly():
    table = Table([[0.1, 5e-324], [-1e300, 3.0]], [0.0, 1e-20])
    read = [[x * table.unit for x in row] for row in table.rows]
    assert read == [
        [Fraction(0.1), Fraction(5e-324)],
        [Fraction(-1e300) - Fraction(1e-20), 3 - Fraction(1e-20)],
    ]
    assert decimal(0.05) == Fraction(1, 20) != Fraction(0.05)
    assert whole_weights(np.array([[0.25, 0.75]])) == [[1, 3]]


# -- the harness itself ----------------------------------------------------------------------


def test_an_instance_is_the_same_every_time():
    for family in FAMILIES:
        one, other = make(family, 3), truth_run.named(f"{family}:3")
        assert (one.values == other.values).all()
        assert (one.weights == other.weights).all()
        assert (one.portfolio, one.epsilon, one.delta) == (
            other.portfolio,
            other.epsilon,
            other.delta,
        )


class Wrong:
    """palm_core with one function that errs on purpose."""

    def __init__(self, name, change):
        self.name, self.change = name, change

    def __getattr__(self, name):
        function = getattr(palm, name)
        if name != self.name:
            return function
        return lambda *args, **options: self.change(function(*args, **options))


def setting(**changes):
    """Change fields of an answer by functions of their values."""

    def change(found):
        for name, new in changes.items():
            object.__setattr__(found, name, new(getattr(found, name)))
        return found

    return change


def less(number):
    return number * (1 - 1e-6)


def middle(weights):
    return np.full_like(weights, 1 / len(weights))


def in_cover(**changes):
    return setting(cover=setting(**changes))


def fewer(indices):
    return indices[:-1]


def one_more(number):
    return number + 1


def two_objectives():
    """Instances that are quickly answered."""
    for seed in range(20):
        for family in ("uniform", "lattice"):
            given = make(family, seed)
            if given.values.shape[1] == 2:
                yield given


# function, the name that is called, what is changed, the kind of complaint
ERRORS = [
    ("gaps", "gaps", setting(delta=less), "below"),
    ("gaps", "gaps", setting(epsilon=less), "below"),
    ("gaps", "gaps", setting(delta=lambda x: 1.001 * x), "loose"),
    ("gaps", "gaps", setting(epsilon=lambda x: 1.001 * x), "loose"),
    ("gaps", "gaps", setting(delta_weights=middle), "weights"),
    ("gaps", "gaps", setting(epsilon_weights=middle), "weights"),
    (
        "gaps_without",
        "gaps_without",
        lambda x: tuple(setting(delta=less)(g) for g in x if g),
        "below",
    ),
    ("gap_frontier", "gap_frontier", less, "below"),
    ("violations", "violations", lambda x: x[:0], "outside"),
    ("violations", "violations", lambda x: np.ones((1, 2)) if not len(x) else x, "loose"),
    ("minimal_portfolio", "minimal_portfolio", setting(indices=fewer), "outside"),
    (
        "minimal_portfolio",
        "minimal_portfolio",
        setting(indices=lambda x: np.arange(len(x) + 1)),
        "false proof",
    ),
    ("minimal_portfolio", "minimal_portfolio", setting(lower_bound=one_more), "lower bound"),
    ("minimal_portfolio", "minimal_portfolio", setting(status=lambda _: "feasible"), "open"),
    ("size_gap_curve", "size_gap_curve", lambda x: x[1:], "false proof"),
    ("size_gap_curve", "size_gap_curve", lambda x: x[:-1], "open"),
    ("size_gap_curve", "size_gap_curve", lambda x: [setting(epsilon=less)(p) for p in x], "below"),
    ("select_models", "select_models", in_cover(lower_bound=one_more), "lower bound"),
    ("select_models", "select_models", in_cover(indices=fewer), "outside"),
    ("prune", "prune", setting(indices=fewer), "outside"),
    ("prune", "prune", setting(lower_bound=one_more), "lower bound"),
    ("certify", "certify", setting(delta=less), "below"),
    ("certify", "certify", setting(epsilon=less), "below"),
    ("certify", "certify", setting(delta=lambda x: 1.001 * x), "loose"),
    ("certify", "certify", setting(epsilon=lambda x: 1.001 * x), "loose"),
]


@pytest.mark.parametrize(("function", "called", "change", "kind"), ERRORS)
def test_a_judge_sees_what_is_false(function, called, change, kind, monkeypatch):
    def kinds(given):
        return {line.split(":")[0] for line in truth_run.problems(function, given)}

    wrong = Wrong(called, change)
    for given in two_objectives():
        if kind not in kinds(given):
            with monkeypatch.context() as patch:
                patch.setattr(truth_judges, "palm", wrong)
                if kind in kinds(given):
                    return
    pytest.fail(f"{kind!r} was not seen in any instance")


def test_routing_otherwise_in_a_batch_is_seen(monkeypatch):
    routed = palm.Portfolio.route_indices

    def last_of_equals(self, weights):
        found = routed(self, weights)
        return len(self.policies) - 1 - found if np.ndim(weights) == 2 else found

    monkeypatch.setattr(palm.Portfolio, "route_indices", last_of_equals)
    kinds = {line.split(":")[0] for line in truth_run.problems("route", make("lattice", 0))}
    assert "unequal" in kinds


@pytest.mark.parametrize("error", [ZeroDivisionError("planted"), RuntimeWarning("planted")])
def test_crashes_and_warnings_are_counted(monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setitem(truth_judges.JUDGES, "gaps", fail)
    (line,) = truth_run.problems("gaps", make("uniform", 0))
    assert line.startswith(f"crash: {type(error).__name__}: planted (test_truth.py")


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer to stop it")
def test_what_does_not_end_is_stopped(monkeypatch):
    def wait(*_):
        while True:
            pass

    monkeypatch.setitem(truth_judges.JUDGES, "gaps", wait)
    monkeypatch.setattr(truth_run, "PATIENCE", 0.1)
    assert truth_run.problems("gaps", make("uniform", 0)) == [
        "stuck: no answer after 0.1 s of processor time"
    ]


def test_a_run_goes_on_where_it_was_stopped(tmp_path, capsys):
    wanted = ["--families", "uniform", "zeros", "--functions", "violations", "route"]

    def run(instances, name):
        truth_run.main([*wanted, "--instances", str(instances), "--resume", str(tmp_path / name)])
        assert f"{instances} instances" in capsys.readouterr().out
        return json.loads((tmp_path / name).read_text(encoding="utf-8"))

    assert run(6, "counts.json")["next"] == 3
    parts, whole = run(10, "counts.json"), run(10, "other.json")
    assert parts.pop("seconds")
    assert whole.pop("seconds")
    assert parts == whole
    with pytest.raises(SystemExit, match="was made with"):
        truth_run.main(["--resume", str(tmp_path / "counts.json")])


@pytest.mark.parametrize(
    ("seconds", "status", "good"),
    [(1.05, "optimal", True), (1.3, "optimal", False), (1.0, "feasible", False)],
)
def test_a_slower_version_or_one_that_proves_less_is_told(seconds, status, good):
    before = {"cpu": 1.0, "wall": 1.0, "status": "optimal"}
    after = {"cpu": seconds, "wall": 1.0, "status": status}
    assert truth_speed.summary("minimal_portfolio", [(before, after)]) is good
