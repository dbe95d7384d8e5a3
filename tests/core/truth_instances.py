"""Instances to hold claims against: tables of policies by family and seed, hard on arithmetic.

``make(family, seed)`` gives the same instance everywhere. A family says how the table is made;
sizes, the portfolio, the tolerance (often exactly a portfolio's own gap, or a unit in the last
place beside it) and the weights follow from the seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from exact_reference import Table

Generator = np.random.Generator
Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Instance:
    """What the public functions are asked about.

    Args:
        values: (m, d) rewards.
        regularizer: (m,) f(π).
        portfolio: rows that are the portfolio; all rows are candidates.
        epsilon: tolerance as a share, in [0, 1].
        delta: tolerance as an amount.
        weights: (k, d), the vertices first; each row adds to one exactly.
        name: family and seed, to make it again.
    """

    values: Array
    regularizer: Array
    portfolio: list[int]
    epsilon: float
    delta: float
    weights: Array
    name: str
    exact: Table = field(init=False)

    def __post_init__(self) -> None:
        regularizer = self.regularizer.tolist()
        object.__setattr__(self, "exact", Table(self.values.tolist(), regularizer))


def uniform(rng: Generator, m: int, d: int) -> Array:
    return rng.random((m, d))


def signed(rng: Generator, m: int, d: int) -> Array:
    return rng.normal(size=(m, d))


def sphere(rng: Generator, m: int, d: int) -> Array:
    points = np.abs(rng.normal(size=(m, d))) + 1e-9
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def lattice(rng: Generator, m: int, d: int) -> Array:
    """Small whole numbers: ties everywhere."""
    low = rng.choice([-3, 0, 0])
    return rng.integers(low, rng.integers(1, 6) + 1, (m, d)).astype(float)


def dyadic(rng: Generator, m: int, d: int) -> Array:
    return rng.integers(-4, 17, (m, d)) / 16


def decimals(rng: Generator, m: int, d: int) -> Array:
    """Percent and tenths, which no float is exactly."""
    return np.round(rng.random((m, d)), int(rng.integers(1, 3)))


def collinear(rng: Generator, m: int, d: int) -> Array:
    """On one line, or a unit in the last place beside it."""
    a, b = rng.random(d), rng.random(d)
    share = rng.integers(0, 9, (m, 1)) / 8
    points = a * share + b * (1 - share)
    return np.nextafter(points, rng.choice([-np.inf, np.inf], (m, d)))


def plain(rng: Generator, m: int, d: int) -> Array:
    """A table of one of the kinds above."""
    return PLAIN[rng.integers(len(PLAIN))](rng, m, d)


PLAIN = (uniform, signed, sphere, lattice, dyadic, decimals, collinear)


def duplicates(rng: Generator, m: int, d: int) -> Array:
    few = plain(rng, max(1, m // 2), d)
    return few[rng.integers(len(few), size=m)]


def last_place(rng: Generator, m: int, d: int) -> Array:
    """Duplicates, some a unit in the last place off."""
    values = duplicates(rng, m, d)
    off = rng.random((m, d)) < 0.3
    return np.where(off, np.nextafter(values, rng.choice([-np.inf, np.inf], (m, d))), values)


def scaled(rng: Generator, m: int, d: int) -> Array:
    """Each objective in units of its own, 1e−12 … 1e12."""
    return plain(rng, m, d) * 10.0 ** rng.integers(-12, 13, d)


def huge_objective(rng: Generator, m: int, d: int) -> Array:
    """One objective 1e3 … 1e18 times the others, in part the same for all."""
    values = plain(rng, m, d)
    column = rng.integers(d)
    values[:, column] *= 10.0 ** rng.integers(3, 19)
    if rng.random() < 0.5:
        values[:, column] = values[0, column] or 1e15
    return values


def sentinels(rng: Generator, m: int, d: int) -> Array:
    """Missing scores written as −1e9 … −1e300, sometimes as large positive numbers."""
    values = plain(rng, m, d)
    size = 10.0 ** rng.choice([9, 11, 12, 15, 18, 30, 100, 300])
    bad = rng.random((m, d)) < rng.choice([0.1, 0.3])
    sign = rng.choice([-1.0, -1.0, -1.0, 1.0], (m, d))
    return np.where(bad, sign * size, values)


def beside_sentinels(rng: Generator, m: int, d: int) -> Array:
    """Unit vectors, their middle, and a row of sentinels that is best in one place (case a, e)."""
    size = 10.0 ** rng.choice([9, 11, 12, 15, 18, 30, 100])
    bad = np.full(d, -size)
    bad[rng.integers(d)] = 1 + rng.choice([1e-3, 0.5, 1e-9])
    rows = [*np.eye(d), bad, np.full(d, rng.choice([0.5, 0.4, 0.75]))]
    return np.array(rows)[rng.permutation(d + 2)]


def beside_a_constant(rng: Generator, m: int, d: int) -> Array:
    """One huge objective that is the same for all, trade-offs in the others (cases b, c)."""
    values = 1 - rng.choice([0.5, 0.25, 0.1, 1e-3, 1e-9]) * rng.integers(0, 2, (m, d))
    values[:, 0] = 10.0 ** rng.integers(9, 19)
    return values


def one_bends(rng: Generator, m: int, d: int) -> Array:
    """Unit vectors and one policy just above their envelope (case d)."""
    top = rng.choice([1.0, 1 + 1e-12, 1 + 1e-9, 1.01, 1.08]) / d
    return np.vstack([np.eye(d), np.full((1, d), top)])


def denormals(rng: Generator, m: int, d: int) -> Array:
    """Small multiples of the smallest number there is, alone or beside ordinary ones."""
    small = rng.integers(-3, 8, (m, d)) * 5e-324
    return (
        small if rng.random() < 0.6 else np.where(rng.random((m, d)) < 0.5, small, plain(rng, m, d))
    )


def tiny(rng: Generator, m: int, d: int) -> Array:
    """Everything in units of 1e−300 … 1e−150, where products underflow."""
    return plain(rng, m, d) * 10.0 ** rng.integers(-300, -150)


def giant(rng: Generator, m: int, d: int) -> Array:
    return plain(rng, m, d) * 10.0 ** rng.integers(150, 299)


def offset(rng: Generator, m: int, d: int) -> Array:
    """Small differences on a large base."""
    base = 10.0 ** rng.integers(0, 13)
    return plain(rng, m, d) + base * rng.choice([-1.0, 1.0, 1.0])


def negative(rng: Generator, m: int, d: int) -> Array:
    return -np.abs(plain(rng, m, d))


def zeros(rng: Generator, m: int, d: int) -> Array:
    values = plain(rng, m, d) * (rng.random((m, d)) < 0.4)
    return values * (rng.random((m, 1)) < 0.7) if rng.random() < 0.7 else np.zeros((m, d))


def mixed(rng: Generator, m: int, d: int) -> Array:
    """Rows of three families."""
    parts = [list(FAMILIES.values())[i](rng, m, d) for i in rng.integers(len(FAMILIES) - 1, size=3)]
    rows = np.concatenate(parts)
    return rows[rng.permutation(len(rows))[:m]]


FAMILIES: dict[str, Callable[[Generator, int, int], Array]] = {
    made.__name__: made
    for made in (
        *PLAIN,
        duplicates,
        last_place,
        scaled,
        huge_objective,
        sentinels,
        beside_sentinels,
        beside_a_constant,
        one_bends,
        denormals,
        tiny,
        giant,
        offset,
        negative,
        zeros,
        mixed,
    )
}
#: Of these no doubt of arithmetic may leave a minimum unproven.
ORDINARY = ("uniform", "signed", "sphere", "lattice", "dyadic", "decimals", "duplicates")


def make(family: str, seed: int, *, high: bool | None = None) -> Instance:
    """The instance of a family and a seed; ``high``: 5 … 8 objectives, by default one in 100."""
    rng = np.random.default_rng([sum(map(ord, family)), seed])
    many = rng.random() < 0.01
    if many if high is None else high:
        d, m = int(rng.integers(5, 9)), int(rng.integers(1, 9))
    else:
        d, m = int(rng.choice([2, 2, 3, 3, 3, 4, 4])), int(rng.integers(1, rng.choice([6, 9, 13])))
    values = np.asarray(FAMILIES[family](rng, m, d), dtype=float)
    m = len(values)
    regularizer = np.zeros(m)
    if rng.random() < 0.1:
        size = np.abs(values).max() * rng.choice([1e-3, 1.0])
        regularizer = size * np.round(rng.random(m), int(rng.integers(1, 17)))
    portfolio = np.sort(rng.permutation(m)[: rng.integers(1, max(2, m))]).tolist()
    epsilon, delta = _tolerance(rng, values, regularizer)
    name = f"{family}:{seed}" + ("" if high is None else f":{'high' if high else 'low'}")
    return Instance(values, regularizer, portfolio, epsilon, delta, _weights(rng, d), name)


def _tolerance(rng: Generator, values: Array, regularizer: Array) -> tuple[float, float]:
    """(ε, δ): nothing, a usual share, or exactly what some rows lose, give or take the last bit."""
    kind = rng.choice(["none", "usual", "both", "gap", "gap", "amount"])
    if kind == "none":
        return 0.0, 0.0
    if kind == "usual":
        return float(rng.choice([0.01, 0.05, 0.1, 0.25, 1.0])), 0.0
    spread = float(np.abs(values - values[0]).max())
    if kind == "both":
        return float(rng.choice([0.05, 0.25])), spread / 16
    m = len(values)
    some = rng.permutation(m)[: rng.integers(1, max(2, m))].tolist()
    additive, ratio = Table(values.tolist(), regularizer.tolist()).gaps(some, range(m))
    wanted = ratio.value if kind == "gap" else additive.value
    number = float(wanted) if wanted < 1e300 else 1e300
    if rng.random() < 0.4:
        number = math.nextafter(number, rng.choice([0.0, math.inf]))
    if kind == "gap":
        return (number, 0.0) if number <= 1 else (0.5, 0.0)
    return 0.0, number if math.isfinite(number) else 0.0


def _weights(rng: Generator, d: int) -> Array:
    """The vertices, and points of the lattice of step 2^−k; as floats they add to one exactly."""
    n = int(rng.integers(0, 6))
    whole = 2 ** int(rng.choice([1, 3, 10, 30]))
    further = []
    for _ in range(n):
        cuts = np.sort(rng.integers(0, whole + 1, d - 1))
        further.append(np.diff(np.concatenate([[0], cuts, [whole]])) / whole)
    return np.vstack([np.eye(d), *further])
