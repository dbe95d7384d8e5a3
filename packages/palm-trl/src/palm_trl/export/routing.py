"""``routing.json``: which model serves which weights, by a rule that works without PALM.

The rule is the portfolio's own (:meth:`palm_core.Portfolio.route`): the model with the largest
J_w = Σ_i w_i·u_i, u_i = (r_i − f − lower_i)/(upper_i − lower_i); of equal ones the first. If
two models are equal up to the rounding of their J_w, float64 may decide either way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta, Struct

from palm_core import Normalization, serving_intervals, serving_shares

if TYPE_CHECKING:
    from palm_core import Portfolio
    from palm_trl.export.models import Gathered

FORMAT: Final = "palm-routing"
VERSION: Final = 1
RULE = (
    "Weights are one number for each objective, not negative, adding to 1. The model for them "
    "is the one with the largest sum of weight times value over the objectives; of equals the "
    "one listed first. values[i] = (rewards[i] - regularizer - lower[i]) / (upper[i] - lower[i])."
)


class Serves(Struct, kw_only=True, frozen=True):
    """Of two objectives, the weights of the first that a model serves: from, to."""

    objective: str
    least: float
    most: float


class ModelRecord(Struct, kw_only=True, frozen=True):
    """One model.

    Attributes:
        name: what it is asked by.
        policy: its id in the portfolio.
        path: of its files, in this folder.
        port: where ``serve.sh`` makes it be heard, if there is one; counted from $PORT.
        values: (d,) u_i, which the rule is about.
        rewards, regularizer: as measured, in raw units.
        share: of all weights (by volume) that it serves.
        serves: an interval for two objectives; ``None`` for more, or where it is the best at
            single weights only.
    """

    name: str
    policy: str
    path: str
    port: Annotated[int, Meta(ge=1)] | None = None
    values: list[float]
    rewards: list[float]
    regularizer: float
    share: float
    serves: Serves | None = None


class RoutingDocument(Struct, kw_only=True, frozen=True):
    """The whole of ``routing.json``."""

    format: Literal["palm-routing"] = FORMAT
    version: Annotated[int, Meta(ge=1, le=VERSION)] = VERSION
    rule: str = RULE
    objectives: Annotated[list[str], Meta(min_length=2)]
    normalization: Normalization
    models: Annotated[list[ModelRecord], Meta(min_length=1)]


def routing_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of ``routing.json``."""
    schema = msgspec.json.schema(RoutingDocument)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def routing_of(gathered: Gathered, paths: list[str], ports: list[int] | None) -> RoutingDocument:
    """The routing table of a portfolio.

    Args:
        gathered: its models.
        paths: the path of each model in the folder.
        ports: the port of each model, or ``None``.
    """
    portfolio = gathered.portfolio
    values = portfolio.policy_set.vertex_values
    serves, shares = serving(portfolio)
    return RoutingDocument(
        objectives=list(portfolio.objectives),
        normalization=portfolio.normalization,
        models=[
            ModelRecord(
                name=model.name,
                policy=model.policy.id,
                path=paths[index],
                port=None if ports is None else ports[index],
                values=values[index].tolist(),
                rewards=np.asarray(model.policy.rewards, dtype=float).tolist(),
                regularizer=float(model.policy.regularizer),
                share=shares[index],
                serves=serves[index],
            )
            for index, model in enumerate(gathered.models)
        ],
    )


def serving(portfolio: Portfolio) -> tuple[list[Serves | None], list[float]]:
    """The weights each policy serves (for two objectives), and its share of all weights."""
    shares = serving_shares(portfolio.policy_set).tolist()
    if len(portfolio.objectives) != 2:
        return [None] * len(portfolio), shares
    first = portfolio.objectives[0]
    return [
        None if np.isnan(least) else Serves(objective=first, least=float(least), most=float(most))
        for least, most in serving_intervals(portfolio.policy_set)
    ], shares
