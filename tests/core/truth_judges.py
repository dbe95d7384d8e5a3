"""What each public function claims of an instance, held against the exact reference.

A judge calls one function and returns what is wrong, as "kind: detail". Kinds:

* "below": a bound is below the truth, "last bits": by rounding only (still wrong: bounds are to
  be rounded outward);
* "loose": a bound is above the truth by more than :data:`RELATIVE` and rounding;
* "weights": the weights returned do not attain the value;
* "outside": a set that is not within the tolerance it is said to be within;
* "false proof": "optimal" or "proven", and a smaller set or gap exists;
* "lower bound": a lower bound above the true minimum;
* "open": a minimum left unproven though the instance is small;
* "unequal": the same question asked twice has two answers.

A tolerance or a score has two readings, the binary number that the float is and the decimal
that is printed for it; where they disagree, either answer is right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

import numpy as np
from exact_reference import Share, Table, certificate, decimal, dot, value, whole_weights
from truth_instances import Instance

import palm_core as palm

#: How far a bound may be above the truth: as a share of it …
RELATIVE = Fraction(1, 10**9)
#: … and as a share of what is subtracted at the weights that decide.
ROUNDING = Fraction(1, 2**44)
#: The share that a size-gap curve says that it tells apart.
SAME = Fraction(1, 10**9)
SMALLEST = Fraction(5e-324)
TIME_LIMIT = 5.0

Problems = Iterator[str]
Judge = Callable[[Instance, np.random.Generator], Problems]


def policies(given: Instance) -> palm.PolicySet:
    return palm.PolicySet(given.values, given.regularizer if given.regularizer.any() else None)


def subset(given: Instance) -> palm.PolicySet:
    return policies(given).subset(given.portfolio)


def digits(x: float) -> int:
    """How many significant digits ``x`` is written with."""
    return len(repr(x).partition("e")[0].replace(".", "").strip("-0"))


def readings(given: Instance) -> list[tuple[Table, Fraction, Fraction]]:
    """(policies, ε, δ): each of policies and tolerances as binary numbers and as decimals."""
    exact = given.exact
    binary = Fraction(given.epsilon), Fraction(given.delta)
    written = decimal(given.epsilon), decimal(given.delta)
    found = [(exact, *binary)]
    if written != binary:
        found.append((exact, *written))
    if all(digits(x) <= 15 for row in given.values.tolist() for x in row):
        rows = [[decimal(x) for x in row] for row in given.values]
        table = Table(rows, [decimal(x) for x in given.regularizer])
        if table.rows != exact.rows:
            found.append((table, *written))
            if written != binary:
                found.append((table, *binary))
    return found


def shown(number: Share) -> str:
    near = float(number) if number < 1e300 else math.inf
    return f"{near:.17g}" if near or not number else "less than the least float, not 0"


# -- gaps ------------------------------------------------------------------------------------


def operands(
    table: Table, portfolio: Sequence[int], candidates: Sequence[int], weights
) -> Fraction:
    """Σ w_i·|u_i| of the best candidate and of the best of the portfolio, Σ w_i = 1."""
    weights = [Fraction(w) for w in weights]
    total, size = sum(weights), Fraction(0)
    for rows in (portfolio, candidates):
        best = max((table.rows[i] for i in rows), key=lambda row: value(row, weights))
        size += value([abs(x) for x in best], weights)
    return size * table.unit / total


def loss_at(table: Table, portfolio, candidates, weights) -> tuple[Fraction, Fraction]:
    """(opt − L, opt) at weights, which need not add to one."""
    weights = [Fraction(float(w)) for w in weights]
    total = sum(weights)
    values = [value(row, weights) * table.unit / total for row in table.rows]
    opt = max(values[i] for i in {*portfolio, *candidates})
    return opt - max(values[i] for i in portfolio), opt


def compare(
    name: str,
    claimed: float,
    truth: Share,
    slack: Fraction,
    *,
    at: Share | None = None,
    tight: bool = True,
) -> Problems:
    """A bound that must not be below the truth, nor (``tight``) above it by more than ``slack``."""
    if math.isnan(claimed):
        yield f"below: {name} is not a number"
    elif claimed < truth:
        short = math.inf if truth == math.inf else truth - Fraction(claimed)
        kind = "last bits" if short <= slack + truth * Fraction(1, 2**50) else "below"
        more = f"{float(short):.1e} more"
        yield f"{kind}: {name} = {float(claimed)!r}, in truth {shown(truth)} ({more})"
    elif tight and truth != math.inf and claimed > truth + truth * RELATIVE + slack + 4 * SMALLEST:
        yield f"loose: {name} = {claimed!r}, in truth {shown(truth)}"
    elif at is not None and at < truth - truth * RELATIVE - slack - 4 * SMALLEST:
        yield f"weights: {name} = {shown(truth)}, but {shown(at)} at the weights returned"


def compare_gaps(table: Table, portfolio, candidates, found: palm.Gaps, name: str = "") -> Problems:
    """A :class:`palm_core.Gaps` against the exact one."""
    delta, epsilon = table.gaps(portfolio, candidates)
    known = table, portfolio, [*portfolio, *candidates]
    size = operands(*known, delta.weights) + operands(*known, found.delta_weights.tolist())
    at, _ = loss_at(*known, found.delta_weights)
    yield from compare(f"{name}delta", found.delta, delta.value, size * ROUNDING, at=at)
    loss, opt = loss_at(*known, found.epsilon_weights)
    if epsilon.value == math.inf:
        # Where the best is 0 the last bit of the weights decides.
        size = operands(*known, found.epsilon_weights.tolist()) * ROUNDING
        reached = loss > -size and opt <= size
        yield from compare(f"{name}epsilon", found.epsilon, math.inf, Fraction(0))
        if not reached and math.isinf(found.epsilon):
            yield f"weights: {name}epsilon = ∞, but opt = {shown(opt)} at the weights returned"
        return
    total = sum(epsilon.weights)
    best = max(dot(table.rows, epsilon.weights)) * table.unit / total
    size = operands(*known, epsilon.weights)
    if math.isfinite(found.epsilon) and opt > 0:
        size = max(
            size / best if best > 0 else 0, operands(*known, found.epsilon_weights.tolist()) / opt
        )
    else:
        size = size / best if best > 0 else Fraction(0)
    share = loss / opt if opt > 0 else Fraction(0) if not epsilon.value else None
    yield from compare(f"{name}epsilon", found.epsilon, epsilon.value, size * ROUNDING, at=share)


def judge_gaps(given: Instance, rng: np.random.Generator) -> Problems:
    method = rng.choice(["auto", "auto", "programs"])
    found = palm.gaps(subset(given), policies(given), method=method)
    yield from compare_gaps(given.exact, given.portfolio, range(len(given.values)), found)


def judge_gaps_without(given: Instance, rng: np.random.Generator) -> Problems:
    everyone = range(len(given.values))
    for place, found in enumerate(palm.gaps_without(subset(given), policies(given))):
        rest = given.portfolio[:place] + given.portfolio[place + 1 :]
        if found is None:
            if rest:
                yield "open: no gaps without one of several"
            continue
        yield from compare_gaps(given.exact, rest, everyone, found, f"without {place}: ")


def judge_gap_frontier(given: Instance, rng: np.random.Generator) -> Problems:
    shares = [0.0, given.epsilon, 0.05, 1.0]
    found = palm.gap_frontier(subset(given), policies(given), shares)
    everyone = range(len(given.values))
    for share, claimed in zip(shares, found.tolist(), strict=True):
        truth = [
            given.exact.least_delta(given.portfolio, everyone, reading)
            for reading in (Fraction(share), decimal(share))
        ]
        size = operands(given.exact, given.portfolio, everyone, truth[0].weights)
        least = min(x.value for x in truth)
        yield from compare(f"delta at ε = {share!r}", claimed, least, size * ROUNDING)


def judge_violations(given: Instance, rng: np.random.Generator) -> Problems:
    wanted = {"epsilon": given.epsilon, "delta": given.delta}
    found = palm.violations(subset(given), policies(given), **wanted)
    everyone = range(len(given.values))
    truths = {
        bool(table.violated(given.portfolio, everyone, epsilon, delta))
        for table, epsilon, delta in readings(given)
    }
    if len(found) and truths == {False}:
        yield f"loose: a violation at {found[0]}, and there is none"
    if not len(found) and truths == {True}:
        yield "outside: no violation, and there are some"


# -- smallest sets ---------------------------------------------------------------------------


def compare_smallest(found, tables: list[tuple[Table, Fraction, Fraction]]) -> Problems:
    """Indices, status and bounds of a smallest set, each by at least one of the readings."""
    chosen, size = found.indices.tolist(), len(found.indices)
    sizes = [len(table.smallest(epsilon, delta)) for table, epsilon, delta in tables]
    if all(
        table.violated(chosen, range(len(table.rows)), epsilon, delta)
        for table, epsilon, delta in tables
    ):
        yield f"outside: {chosen} is not within (ε, δ) everywhere"
    yield from compare_size(size, found.status, found.lower_bound, sizes)
    if found.status != "optimal":
        yield f"open: {found.lower_bound} ≤ size ≤ {size}, in truth {sizes}"


def compare_size(size: int, status: str, lower: int, sizes: list[int]) -> Problems:
    if status == "optimal" and not min(sizes) <= size <= max(sizes):
        yield f"false proof: {size} are called the fewest, {sizes[0]} are"
    if lower > max(sizes):
        yield f"lower bound: {lower} are said to be needed, {sizes[0]} are"


def judge_minimal_portfolio(given: Instance, rng: np.random.Generator) -> Problems:
    found = palm.minimal_portfolio(
        policies(given), epsilon=given.epsilon, delta=given.delta, time_limit=TIME_LIMIT
    )
    tables = readings(given)
    yield from compare_smallest(found, tables)
    yield from best_of_readings(tables, found.indices.tolist(), found.gaps)


def best_of_readings(tables, chosen: list[int], found: palm.Gaps, name: str = "") -> Problems:
    """The complaints by the reading under which there are fewest."""
    distinct = {id(table): table for table, _, _ in tables}.values()
    everyone = range(len(tables[0][0].rows))
    yield from min(
        (list(compare_gaps(table, chosen, everyone, found, name)) for table in distinct), key=len
    )


def judge_size_gap_curve(given: Instance, rng: np.random.Generator) -> Problems:
    table, everyone = given.exact, range(len(given.values))
    curve = palm.size_gap_curve(policies(given), time_limit=TIME_LIMIT)
    size, gap = 0, Fraction(1)  # of the point before
    for point in curve:
        chosen = point.indices.tolist()
        delta, epsilon = table.gaps(chosen, everyone)
        allowed = operands(table, chosen, everyone, delta.weights) * ROUNDING
        yield from compare(f"delta of {point.size}", point.delta, delta.value, allowed)
        best = max(dot(table.rows, epsilon.weights)) * table.unit / sum(epsilon.weights)
        of_best = operands(table, chosen, everyone, epsilon.weights) / best if best > 0 else 0
        slack = Fraction(of_best) * ROUNDING
        yield from compare(f"epsilon of {point.size}", point.epsilon, epsilon.value, slack)
        if (
            point.size > size + 1
            and fewest(table, gap * (1 - SAME) - slack if size else gap) < point.size
        ):
            yield f"false proof: a size below {point.size} is left out that has a smaller gap"
        size, gap = point.size, Fraction(min(point.epsilon, 1.0))
        if not point.proven:
            yield f"open: the gap of {size} is not proven least"
        elif gap > slack and fewest(table, gap * (1 - SAME) - slack) <= size:
            yield f"false proof: {size} with a gap below {point.epsilon!r} exist"
    if gap:
        yield f"open: the curve ends at {shown(gap)}"


def fewest(table: Table, epsilon: Fraction) -> int:
    """The least size within ε everywhere."""
    return len(table.smallest(max(epsilon, Fraction(0)), Fraction(0)))


def judge_select_models(given: Instance, rng: np.random.Generator) -> Problems:
    scale = str(rng.choice(["minmax", "none"]))
    if given.regularizer.any():
        scale = "none"  # tables have none, and folding it in rounds
    candidates = policies(given)
    try:
        found = palm.select_models(
            candidates,
            epsilon=given.epsilon,
            delta=given.delta,
            normalize=scale,
            time_limit=TIME_LIMIT,
        )
    except palm.InputError:
        u = candidates.vertex_values
        if len(u) < 2 or (
            scale == "minmax" and ((u.max(0) - u.min(0)) <= 1e-15 * abs(u).max(0)).any()
        ):
            return  # nothing to choose from, or to scale by
        raise
    tables = readings(given)
    if scale == "minmax":
        tables = [(normalised(table), epsilon, delta) for table, epsilon, delta in tables]
    # Earlier versions have no cover.
    cover = getattr(found, "cover", found)
    yield from compare_smallest(cover, tables)
    chosen = cover.indices.tolist()
    yield from best_of_readings(tables, chosen, found.gaps)
    everyone = range(len(given.values))
    for place, model in enumerate(found.models):
        rest = chosen[:place] + chosen[place + 1 :]
        if rest and model.gap_without is not None:
            truth = min(table.gaps(rest, everyone)[1].value for table, _, _ in tables)
            slack = truth * ROUNDING
            yield from compare(f"without {place}", model.gap_without, truth, slack, tight=False)


def normalised(table: Table) -> Table:
    """Each objective of the policies from 0 to 1."""
    limits = [(min(column), max(column)) for column in zip(*table.rows, strict=True)]
    return Table(
        [
            [Fraction(x - a, b - a) for x, (a, b) in zip(row, limits, strict=True)]
            for row in table.rows
        ]
    )


def judge_prune(given: Instance, rng: np.random.Generator) -> Problems:
    method = str(rng.choice(["greedy", "exact", "exact"]))
    found = palm.prune(
        policies(given),
        given.weights,
        mu=given.epsilon,
        alpha=given.delta,
        method=method,
        time_limit=TIME_LIMIT,
    )
    weights = whole_weights(given.weights)
    tables = readings(given)
    bits = sum(1 << i for i in found.indices.tolist())
    if not any(
        all(bits & table.covers(w, epsilon, delta) for w in weights)
        for table, epsilon, delta in tables
    ):
        yield f"outside: {found.indices.tolist()} does not cover all weights"
    sizes = [len(table.smallest_at(weights, epsilon, delta)) for table, epsilon, delta in tables]
    yield from compare_size(len(found.indices), found.status, found.lower_bound, sizes)
    if method == "exact" and found.status != "optimal":
        yield f"open: {found.lower_bound} ≤ size ≤ {len(found.indices)}, in truth {sizes}"


# -- certificates and routing ----------------------------------------------------------------


def judge_certify(given: Instance, rng: np.random.Generator) -> Problems:
    known = policies(given)
    claim = [float(x) for x in rng.choice([0.0, 0.0, 0.05], 3)]
    claim[1] *= float(np.abs(given.values).max())
    claim[2] *= float(np.abs(given.values).max())
    epsilon, delta, error = (min(Fraction(x), decimal(x)) for x in claim)
    exact = [[x * given.exact.unit for x in row] for row in given.exact.rows]
    answers, bounds = [], []
    for w in given.weights:
        values = [value(row, w.tolist()) for row in exact]
        answers.append(max(range(len(values)), key=values.__getitem__))
        top = max(values) + error + delta
        bounds.append(top / (1 - epsilon) if top > 0 else top)
    options = {
        "oracle_epsilon": claim[0],
        "oracle_delta": claim[1],
        "evaluation_error": claim[2],
        "method": str(rng.choice(["auto", "auto", "subdivision"])),
    }
    if rng.random() < 0.3:
        options["answers"] = answers
    found = palm.certify(known, given.weights, portfolio=given.portfolio, **options)
    lower = Table([[x - error for x in exact[i]] for i in given.portfolio])
    additive, share = certificate(lower, given.weights.tolist(), bounds)
    place = [Fraction(w) for w in additive.weights]
    size = operands(lower, range(len(lower.rows)), range(len(lower.rows)), place)
    size += abs(additive.value) + max(map(abs, bounds)) + delta + 2 * error
    exactly = found.exact or found.method == "corners"
    slack = size * ROUNDING
    yield from compare("delta", found.delta, additive.value, slack, tight=exactly)
    best = max(dot(lower.rows, share.weights)) * lower.unit / sum(share.weights)
    best = best / (1 - share.value) if share.value < 1 else additive.value  # U in place of L
    of_best = size / best * ROUNDING if best > 0 else Fraction(0)
    sure = exactly and best > slack
    yield from compare("epsilon", found.epsilon, share.value, of_best, tight=sure)
    order = np.concatenate([rng.permutation(len(given.values)), [0, 0]])
    rows = rng.permutation(len(given.weights))
    where = {int(i): place for place, i in reversed(list(enumerate(order)))}
    options.pop("answers", None)
    again = palm.certify(
        known_again(given, order),
        given.weights[rows],
        portfolio=[where[i] for i in given.portfolio],
        **options,
    )
    if exactly and again.exact:
        change = abs(Fraction(again.delta) - Fraction(found.delta))
        if change > slack + found.delta * RELATIVE:
            yield f"unequal: delta {found.delta!r}, in another order {again.delta!r}"


def known_again(given: Instance, order) -> palm.PolicySet:
    return palm.PolicySet(given.values[order], given.regularizer[order])


def judge_route(given: Instance, rng: np.random.Generator) -> Problems:
    known = policies(given)
    d = given.values.shape[1]
    members = tuple(
        palm.Policy(id=str(i), weights=np.full(d, 1 / d), rewards=row, regularizer=float(f))
        for i, (row, f) in enumerate(zip(given.values, given.regularizer, strict=True))
    )
    portfolio = palm.Portfolio(
        policies=members,
        objectives=known.objectives,
        normalization=palm.Normalization.none(d),
    )
    weights = np.vstack([given.weights, rng.dirichlet(np.ones(d), 20)])
    together = portfolio.route_indices(weights).tolist()
    alone = [int(portfolio.route_indices(w)[0]) for w in weights]
    if together != alone:
        yield f"unequal: routed to {together} in one call, to {alone} one by one"
    first = [given.exact.rows.index(row) for row in given.exact.rows]
    for w, index in zip(weights, together, strict=True):
        if first[index] != index:
            yield f"unequal: of equal policies the first is {first[index]}, routed to {index}"
            break
        exact = [Fraction(x) for x in w.tolist()]
        values = [value(row, exact) for row in given.exact.rows]
        best = max(range(len(values)), key=values.__getitem__)
        size = sum(value([abs(x) for x in given.exact.rows[i]], exact) for i in (best, index))
        if (
            values[best] - values[index]
        ) * given.exact.unit > size * given.exact.unit * ROUNDING + d * SMALLEST:
            yield f"outside: routed to {index} at {w.tolist()}, {best} is better"
            break


JUDGES: dict[str, Judge] = {
    judge.__name__.removeprefix("judge_"): judge
    for judge in (
        judge_gaps,
        judge_gaps_without,
        judge_gap_frontier,
        judge_violations,
        judge_minimal_portfolio,
        judge_size_gap_curve,
        judge_select_models,
        judge_prune,
        judge_certify,
        judge_route,
    )
}
