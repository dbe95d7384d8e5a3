"""Weightings as they are typed: ``helpful=0.7,brief=0.3``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from palm_core.cli import output
from palm_core.errors import InputError
from palm_core.simplex import SUM_TOLERANCE
from palm_core.text import did_you_mean, one_line, read_number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def read_weightings(texts: Sequence[str], objectives: Sequence[str]) -> list[list[float]]:
    """One row of weights for each text, in the order of the objectives; what is left out is 0.

    Raises:
        InputError: a text is no weighting of these objectives; what one would be.
    """
    found = [_named(text, objectives) for text in texts]
    for text, named in zip(texts, found, strict=True):
        _check(text, named, found)
    return [[named.get(name, 0.0) for name in objectives] for named in found]


def _named(text: str, objectives: Sequence[str]) -> dict[str, float]:
    shown = f"--weights {one_line(text, 200)}"
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = part.rpartition("=")
        name = name.strip()
        if not equals:
            example = output.example_weights(objectives)
            raise InputError(f"{shown}: {part!r} must be name=value; for example {example}")
        if name not in objectives:
            ask = did_you_mean(name, objectives) or f"; it has {', '.join(objectives)}"
            raise InputError(f"{shown}: the portfolio has no objective {name!r}{ask}")
        if name in found:
            raise InputError(f"{shown}: {name!r} is given twice")
        try:
            found[name] = read_number(value)
        except (ValueError, ZeroDivisionError):
            raise InputError(f"{shown}: {value!r} is not a number such as 0.5") from None
        if not math.isfinite(found[name]) or found[name] < 0:
            raise InputError(f"{shown}: {name} must be a number in [0, 1]")
    return found


def _check(text: str, named: Mapping[str, float], others: Sequence[Mapping[str, float]]) -> None:
    """Refuse weights that do not add to 1; say what may have been meant."""
    total = math.fsum(named.values())
    if abs(total - 1.0) <= SUM_TOLERANCE:
        return
    ask = ""
    if total > 0:
        ask = f"; in that proportion: {_written(_in_proportion(named, total))}"
    together = {name: value for other in others for name, value in other.items()}
    apart = len(others) > 1 and len(together) == sum(map(len, others))
    if apart and abs(math.fsum(together.values()) - 1.0) <= SUM_TOLERANCE:
        ask = f"; one weighting is one word: {_written(together)}"
    numbers = " and ".join(f"{value:g}" for value in named.values())
    adds = f"{numbers} add to {total:g}" if len(named) > 1 else f"adds to {total:g}"
    raise InputError(f"--weights {one_line(text, 200)}: {adds}, must add to 1{ask}")


def _in_proportion(named: Mapping[str, float], total: float) -> dict[str, float]:
    """The weights over their sum, in three digits that add to 1."""
    shares = {name: round(value / total, 3) for name, value in named.items()}
    largest = max(shares, key=lambda name: shares[name])
    shares[largest] = round(shares[largest] + 1.0 - math.fsum(shares.values()), 3)
    return shares


def _written(named: Mapping[str, float]) -> str:
    return ",".join(f"{name}={value:g}" for name, value in named.items())
