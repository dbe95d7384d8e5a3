"""What a benchmark states before it measures: its question, its baseline, its aims."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.documents import Value


NARROW = "\u202f"  # a narrow space at which no line is broken


@dataclass(frozen=True)
class Figure:
    """A measured quantity, of which there is a value for each instance.

    Args:
        name: what it is; of a ratio "what the baseline takes / what ours takes".
        unit: "×", "%" (values are shares), "ms", "J" (differences of the objective) or "" for
            counts.
        drawn: its name in the picture, for a ratio of the baseline's to ours, above 1 where
            ours is better; "" for what is not drawn.
    """

    name: str
    unit: str = "×"
    drawn: str = ""

    def shown(self, value: float, bound: str = "") -> str:
        """A value as text, with what bounds it: "≥ 40×"."""
        sign = f"{bound}{NARROW}" if bound else ""
        if self.unit == "%":
            return f"{sign}{100 * value:.3g}{NARROW}%"
        if self.unit == "J":
            return f"{sign}{value:+.4f}"
        text = f"{value:,.0f}" if self.unit == "" or abs(value) >= 100 else f"{value:.3g}"
        if abs(value) >= 1e6:
            text = f"{value:.1e}"
        return f"{sign}{text}{'' if self.unit in ('×', '') else NARROW}{self.unit}"


@dataclass(frozen=True)
class Verdict:
    """Whether an aim is met (``None``: not measured, or not decided), and on how many."""

    met: bool | None
    within: int
    of: int


@dataclass(frozen=True)
class Aim:
    """A statement on the values of one figure, which they meet or not.

    Args:
        says: the statement.
        figure: what it is about.
        least, most: between which every value has to be, or with ``over`` only their
            median or geometric mean.
        remark: what to know about it; needed where it is not met.
    """

    says: str
    figure: Figure
    least: float = -math.inf
    most: float = math.inf
    over: Literal["each", "median", "geometric mean"] = "each"
    remark: str = ""

    def __post_init__(self) -> None:
        if self.least > self.most or (self.least, self.most) == (-math.inf, math.inf):
            raise ValueError(f"{self.says!r}: least or most has to be given, least ≤ most")

    def judge(self, values: Sequence[Value]) -> Verdict:
        """Judge by what the values may be: "≥ 40" is between 40 and infinity."""
        if not values:
            return Verdict(None, 0, 0)
        lowest = [-math.inf if one.bound == "≤" else one.value for one in values]
        highest = [math.inf if one.bound == "≥" else one.value for one in values]
        if self.over == "median":
            lowest, highest = [statistics.median(lowest)], [statistics.median(highest)]
        elif self.over == "geometric mean":
            lowest, highest = [_geometric_mean(lowest)], [_geometric_mean(highest)]
        pairs = list(zip(lowest, highest, strict=True))
        surely = sum(self.least <= low and high <= self.most for low, high in pairs)
        surely_not = any(high < self.least or low > self.most for low, high in pairs)
        met = True if surely == len(pairs) else False if surely_not else None
        return Verdict(met, surely, len(pairs))


def _geometric_mean(values: list[float]) -> float:
    if min(values) <= 0:  # an upper bound alone says nothing of the mean's least value
        return 0.0
    return math.exp(statistics.mean(map(math.log, values))) if max(values) < math.inf else math.inf


@dataclass(frozen=True)
class Benchmark:
    """What a benchmark asks.

    Args:
        question: in one sentence.
        against: the baseline in a few words.
        baseline: what ours is compared with, exactly.
        why: why that and nothing else.
        quick: what ``--quick`` measures, and how long it takes.
        full: the same for a run without it.
        figures: all that it records, in the order of the page.
        aims: what the figures should be.
    """

    question: str
    against: str
    baseline: str
    why: str
    quick: str
    full: str
    figures: tuple[Figure, ...]
    aims: tuple[Aim, ...]

    def __post_init__(self) -> None:
        if strange := {aim.figure.name for aim in self.aims} - {one.name for one in self.figures}:
            raise ValueError(f"aims on figures that are not declared: {', '.join(strange)}")
