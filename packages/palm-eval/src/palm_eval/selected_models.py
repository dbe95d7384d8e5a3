"""The models that a portfolio was selected from, out of the table that holds them all."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from palm_core import InputError, Normalization, PolicySet, gaps
from palm_core.text import one_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from palm_core import Portfolio, Table
    from palm_core.documents import GapsRecord

    Array = NDArray[np.float64]


def is_selected(portfolio: Portfolio) -> bool:
    """Whether it was chosen out of policies that were there: no oracle could give others."""
    return portfolio.oracle_calls == 0 and portfolio.certificate is None


def models_of(portfolio: Portfolio, table: Table) -> PolicySet:
    """All models of a table, in the space that the weights of a portfolio speak of.

    ``palm select`` negates what is to be minimised. Which columns those were is seen at the
    portfolio's own models; that what it promises holds for this table, at the limits of
    its scale and at its exact gaps to all of them. A change that leaves these is not seen.

    Args:
        portfolio: what ``palm select --save`` wrote.
        table: from :func:`palm_core.read_table`.

    Returns:
        (m, d) policies, m the rows of the table.

    Raises:
        InputError: the portfolio is of a run, or was not selected from this table; with the
            column, the model or the number by which that is seen.
    """
    if not is_selected(portfolio):
        raise InputError(
            f"{table.source}: the portfolio is of a run, whose folder has the policies it was "
            "chosen from"
        )
    columns = [np.array(table.numbers(name)) for name in portfolio.objectives]
    names = table.names(portfolio.objectives)
    own = _rows(portfolio, names, table.source)
    signs = [
        _signs(column, portfolio, index, own, table.source) for index, column in enumerate(columns)
    ]
    if len(names) != portfolio.candidates:
        raise InputError(
            f"{table.source}: has {len(names)} models, but the portfolio was selected from "
            f"{portfolio.candidates}"
        )
    for each in product(*signs):
        raw = PolicySet(
            np.column_stack(columns) * each, names=names, objectives=portfolio.objectives
        )
        limits = portfolio.normalization
        scale = Normalization.fit(raw, limits.method, over=limits.over)
        models = scale.apply(raw)
        if scale == limits and _agree(portfolio.gaps, models, own):
            return models
    raise InputError(
        f"{table.source}: has the models of the portfolio, but others must have changed: their "
        "limits and gaps are not those that were recorded; select from it again"
    )


def _rows(portfolio: Portfolio, names: list[str], source: str) -> list[int]:
    """The rows of the portfolio's models."""
    places = {name: row for row, name in enumerate(names)}
    for policy in portfolio.policies:
        if policy.id not in places:
            raise InputError(
                f"{source}: has no model {one_line(policy.id)!r}, so the portfolio was not "
                "selected from it"
            )
    return [places[policy.id] for policy in portfolio.policies]


def _signs(
    column: Array, portfolio: Portfolio, index: int, own: list[int], source: str
) -> list[float]:
    """1 where an objective is a column as it stands, −1 where negated; both if all are 0."""
    rewards = np.array([policy.rewards[index] for policy in portfolio.policies])
    differ = {sign: sign * column[own] != rewards for sign in (1.0, -1.0)}
    found = [sign for sign, rows in differ.items() if not rows.any()]
    if not found:
        sign = min(differ, key=lambda one: int(differ[one].sum()))
        row = int(np.argmax(differ[sign]))
        raise InputError(
            f"{source}: column {portfolio.objectives[index]!r} of model "
            f"{one_line(portfolio.policies[row].id)!r} is {column[own][row]:g}, but the portfolio "
            f"was selected where it was {sign * rewards[row]:g}"
        )
    return found


def _agree(recorded: GapsRecord | None, models: PolicySet, own: list[int]) -> bool:
    """Whether the models' exact gaps to all others are those that were recorded."""
    if recorded is None:
        return True
    exact = gaps(models.subset(own), models)
    epsilon = np.inf if recorded.epsilon is None else recorded.epsilon
    return bool(np.allclose([exact.epsilon, exact.delta], [epsilon, recorded.delta], atol=1e-9))
