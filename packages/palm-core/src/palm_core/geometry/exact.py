"""Exact arithmetic: decimal readings of data, float64 error bounds, outward rounding.

The only module with numerical tolerances of the mathematics. Comparisons are decided in
float64 where the difference exceeds :func:`rounding_error` of its operands, otherwise in
rational arithmetic; reported values are rounded outward.

A table of float64 numbers has two exact readings: itself, and, if all are written with at
most 15 significant digits, those decimals, since different decimals of 15 digits have
different float64 numbers. The same holds for a tolerance, which is met if it is met in either: 0.95
loses 5 % of 1 although the float64 number next to 0.95 is 4e-17 further away.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Row = tuple[Fraction, ...]

#: Half of the distance from 1 to the next float64 number.
UNIT = 2.0**-53
#: Largest rounding error of products below the smallest normal number.
TINY = 2.0**-1060
#: Number of decimal digits that float64 distinguishes.
_DIGITS = 15
_counts = {"comparisons": 0, "rational": 0}


def counts() -> dict[str, int]:
    """The numbers of comparisons so far, in all and in rational arithmetic."""
    return dict(_counts)


def count(comparisons: int, rational: int = 0) -> None:
    """Count ``comparisons``, ``rational`` of them in rational arithmetic."""
    _counts["comparisons"] += comparisons
    _counts["rational"] += rational


def rounding_error(n_terms: int) -> float:
    """Relative error of a sum of ``n_terms`` products of given numbers, per Σ|a_i·b_i|.

    (n + 2)·UNIT bounds the rounding of the sum and of what it is compared with (Higham,
    2002, section 3.1); in addition each of two numbers may represent another, 4·UNIT away.
    Doubled, so that computing the bound may round, too.
    """
    return 2 * (n_terms + 10) * UNIT


def raised(values: Array) -> Array:
    """Vertex values (m, d) raised so that the computed w·u is never below the exact one."""
    return np.asarray(values + rounding_error(values.shape[1]) * np.abs(values))


class Reading:
    """Exact numbers of m policies: in objective i integers over a common denominator.

    Args:
        scale: (d,) the denominators, positive.
        integers: (d,) numerators of a policy, by index.
    """

    def __init__(self, scale: Sequence[int], integers: Callable[[int], tuple[int, ...]]) -> None:
        self.scale = tuple(scale)
        self.integers = integers

    def __call__(self, index: int) -> Row:
        """(d,) the numbers of a policy."""
        return tuple(map(Fraction, self.integers(index), self.scale))


class Values:
    """Vertex values of m policies in d objectives: float64 and the exact numbers behind it.

    Args:
        floats: (m, d), each within 4·UNIT, relative, of the exact numbers.
        readings: one or two.
        order: (m, d) numbers ordered in each objective as the exact ones; ``None`` if the
            floats were rounded, so that different exact numbers may be equal.
    """

    def __init__(self, floats: Array, readings: Sequence[Reading], *, order: Array | None) -> None:
        self.floats = floats
        self.readings = tuple(readings)
        self._order = order

    @property
    def order(self) -> Array:
        """(m, d) numbers that are ordered in each objective as the exact ones are."""
        if self._order is None:
            integers = self.readings[0].integers
            ranks = []
            for column in zip(*map(integers, range(len(self.floats))), strict=True):
                place = {number: rank for rank, number in enumerate(sorted(set(column)))}
                ranks.append([float(place[number]) for number in column])
            self._order = np.array(ranks).T
        return self._order

    @classmethod
    def of(cls, rewards: Array, regularizer: Array | None = None) -> Values:
        """Vertex values of rewards (m, d) minus the regulariser (m,)."""
        powers = [_denominator(column) for column in rewards.T]
        if regularizer is not None and regularizer.any():
            least = _denominator(regularizer)
            powers = [max(power, least) for power in powers]

            def difference(index: int) -> tuple[int, ...]:
                less = _numerator(float(regularizer[index]), least)
                return tuple(
                    _numerator(value, power) - (less << (power - least))
                    for value, power in zip(rewards[index].tolist(), powers, strict=True)
                )

            floats = rewards - regularizer[:, np.newaxis]
            return cls(floats, [Reading([1 << power for power in powers], difference)], order=None)

        def binary(index: int) -> tuple[int, ...]:
            return tuple(map(_numerator, rewards[index].tolist(), powers))

        readings = [Reading([1 << power for power in powers], binary)]
        places = [decimal_places(column) for column in rewards.T]
        digits = [each for each in places if each is not None]
        if len(digits) == len(places) and any(digits):

            def decimal(index: int) -> tuple[int, ...]:
                row = rewards[index].tolist()
                return tuple(round(x * 10.0**each) for x, each in zip(row, digits, strict=True))

            readings.append(Reading([10**each for each in digits], decimal))
        return cls(rewards, readings, order=rewards)

    def take(self, indices: NDArray[np.intp]) -> Values:
        """The policies at ``indices``."""

        def part(reading: Reading) -> Reading:
            return Reading(reading.scale, lambda index: reading.integers(int(indices[index])))

        readings = [part(reading) for reading in self.readings]
        order = None if self._order is None else self._order[indices]
        return Values(self.floats[indices], readings, order=order)


def scaled(values: Values, lower: Array, upper: Array) -> tuple[Array, Reading]:
    """(u − lower)/(upper − lower) by objective: nearest float64 numbers (m, d), and exactly.

    A column and its limits are read as decimals where all of them are.
    """
    columns, scale, rows = [], [], []
    exact = values.readings[0]
    decimal_ = values.readings[-1]
    for i, column in enumerate(values.floats.T):
        places = decimal_places(np.append(column, [lower[i], upper[i]]))
        if places is not None and len(values.readings) > 1:
            low, high = (round(limit * 10.0**places) for limit in (lower[i], upper[i]))
            columns.append((np.rint(column * 10.0**places) - low) / (high - low))
            factor, reading = 10**places // decimal_.scale[i], decimal_
        else:
            limits = [Fraction(float(limit)) for limit in (lower[i], upper[i])]
            common = math.lcm(exact.scale[i], *(limit.denominator for limit in limits))
            low, high = (int(limit * common) for limit in limits)
            columns.append((column - lower[i]) / (upper[i] - lower[i]))
            factor, reading = common // exact.scale[i], exact
        scale.append(high - low)
        rows.append((reading, factor, low))

    def integers(index: int) -> tuple[int, ...]:
        return tuple(
            reading.integers(index)[i] * factor - low
            for i, (reading, factor, low) in enumerate(rows)
        )

    return np.column_stack(columns), Reading(scale, integers)


def _denominator(column: Array) -> int:
    """The least k ≥ 0 such that all numbers (m,) times 2^k are integers."""
    mantissa, exponent = np.frexp(column)
    some = mantissa != 0
    return max(0, 53 - int(exponent[some].min())) if some.any() else 0


def _numerator(value: float, power: int) -> int:
    """``value`` times 2^``power``, an integer."""
    top, bottom = value.as_integer_ratio()
    return (top << power) // bottom


def decimal_places(column: Array) -> int | None:
    """The fewest decimal places that represent all numbers (m,); ``None`` if too many."""
    for value in column[:4].tolist():
        if len(repr(value).partition("e")[0].replace(".", "").strip("-0")) > _DIGITS:
            return None
    for some in (column[:64], column):
        for places in range(_DIGITS + 1):
            whole = np.rint(some * 10.0**places)
            if (np.abs(whole) > 10.0**_DIGITS).any():
                return None
            if (whole / 10.0**places == some).all():
                break
        else:
            return None
    return places


def tolerance(value: float) -> Fraction:
    """A tolerance as a rational: the larger of its two readings."""
    places = decimal_places(np.array([value]))
    exact = Fraction(value)
    return (
        exact if places is None else max(exact, Fraction(round(value * 10.0**places), 10**places))
    )


def nearest(value: Fraction) -> float:
    """The nearest float64 number; ±∞ beyond the largest."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def rounded_up(value: Fraction) -> float:
    """The least float64 number that is not below ``value``; ∞ beyond the largest."""
    near = nearest(value)
    if math.isinf(near):
        return max(near, -np.finfo(np.float64).max)
    return near if near >= value else math.nextafter(near, math.inf)


def rounded_down(value: Fraction) -> float:
    """The largest float64 number that is not above ``value``."""
    return -rounded_up(-value)


def floats(values: Sequence[Fraction]) -> Array:
    """Rationals as the nearest float64 numbers (n,)."""
    return np.array([nearest(value) for value in values])


def dot(first: Sequence[Fraction], second: Sequence[Fraction]) -> Fraction:
    """Σ_i a_i·b_i."""
    return sum((a * b for a, b in zip(first, second, strict=True)), start=Fraction(0))
