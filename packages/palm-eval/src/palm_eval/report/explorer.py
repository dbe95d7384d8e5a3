"""The part of a report that moves: policies, their cells, and their answers, as plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from palm_core import serving_intervals, serving_shares
from palm_core.cli.output import number, percent
from palm_core.envelope import drop_dominated
from palm_core.polygons import serving_cells
from palm_core.text import one_line
from palm_eval.figures import policy_styles
from palm_eval.rewards.texts import messages
from palm_eval.selected_models import is_selected

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from palm_core import PolicySet, Portfolio
    from palm_eval.report.contents import ReportContents
    from palm_eval.run_responses import RunResponses

    Array = NDArray[np.float64]

# Weightings that are looked through for one that a policy of four objectives serves.
_TRIED = 20_000
_LABEL = 90


def explorer_data(contents: ReportContents) -> dict[str, Any]:
    """What the page's script works on; see ``report.js``."""
    portfolio = contents.portfolio
    return {
        "objectives": list(portfolio.objectives),
        "policies": [
            {
                key: policy[key]
                for key in ("id", "number", "colour", "ink", "values", "cell", "centre", "cells")
            }
            for policy in policy_rows(portfolio)
        ],
        "found": None if contents.candidates is None else _found(contents.candidates),
        "candidates": portfolio.candidates,
        "selected": is_selected(portfolio),
        "prompts": prompt_rows(contents),
    }


def policy_rows(portfolio: Portfolio) -> list[dict[str, Any]]:
    """A row for each policy: what the page shows of it, and where it serves.

    ``cell`` is an interval of w_1 for d = 2, a polygon of weights for d = 3; ``centre`` a
    weighting in its middle, and ``start`` one that it serves, for any d; ``None`` where
    there is none (of the sampled weights, for d ≥ 4).
    """
    policies = portfolio.policy_set
    styles = policy_styles(policies)
    shares = serving_shares(policies)
    cells, starts = _cells(policies.vertex_values)
    low, high = _limits(portfolio)
    rows = []
    for index, policy in enumerate(portfolio.policies):
        style, cell = styles[policy.id], cells.get(index)
        errors = policy.reward_errors
        rows.append(
            {
                "id": policy.id,
                "number": style.number,
                "colour": style.colour,
                "ink": _ink(style.colour),
                "values": policies.vertex_values[index].tolist(),
                "cell": None if cell is None else cell.tolist(),
                "centre": starts[index].tolist() if cell is not None and cell.ndim > 1 else None,
                "start": starts[index].tolist() if index in starts else None,
                "share": percent(float(shares[index]), 1),
                "regularizer": number(float(policy.regularizer)),
                "cells": [
                    {
                        "value": number(float(value)),
                        "error": "" if errors is None else number(float(errors[i])),
                        "width": round(100 * float((value - low[i]) / (high[i] - low[i])), 1),
                    }
                    for i, value in enumerate(policy.rewards)
                ],
            }
        )
    return rows


def _limits(portfolio: Portfolio) -> tuple[Array, Array]:
    """What the meters of the table run between, in raw units."""
    rewards = np.array([policy.rewards for policy in portfolio.policies])
    limits = portfolio.normalization
    if limits.method == "minmax":
        return np.array(limits.lower), np.array(limits.upper)
    low, high = np.minimum(rewards.min(axis=0), 0.0), rewards.max(axis=0)
    return low, np.where(high > low, high, low + 1.0)


def _cells(values: Array) -> tuple[dict[int, Array], dict[int, Array]]:
    """Cell and an inner weighting of each policy that serves any."""
    d = values.shape[1]
    if d == 2:
        ends = {i: row for i, row in enumerate(serving_intervals(values)) if row[1] > row[0]}
        middles = {i: row.mean() for i, row in ends.items()}
        return ends, {i: np.array([middle, 1 - middle]) for i, middle in middles.items()}
    if d == 3:
        cells = serving_cells(values)
        return cells, {i: cell.mean(axis=0) for i, cell in cells.items()}
    weights = np.random.default_rng(0).dirichlet(np.ones(d), size=_TRIED)
    reached = weights @ values.T
    best, lead = (
        reached.argmax(axis=1),
        np.partition(reached, -2, axis=1)[:, -2:] if len(values) > 1 else None,
    )
    starts = {}
    for index in np.unique(best).tolist():
        mine = np.flatnonzero(best == index)
        margin = np.zeros(len(mine)) if lead is None else lead[mine, 1] - lead[mine, 0]
        starts[index] = weights[mine[int(np.argmax(margin))]]
    return {}, starts


def _found(candidates: PolicySet) -> list[list[float]]:
    """Vertex values of the policies that may be the best somewhere; for d ≤ 3, that are."""
    values = candidates.vertex_values
    values = values[drop_dominated(values)]
    if values.shape[1] <= 3:
        values = values[serving_shares(values) > 0]
    found: list[list[float]] = values.tolist()
    return found


def _ink(colour: str) -> str:
    """Black or white, whichever is read more easily on ``colour`` (WCAG 2 contrast)."""
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ [0.2126, 0.7152, 0.0722])
    return "#000000" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "#ffffff"


def prompt_rows(contents: ReportContents) -> list[dict[str, Any]]:
    """The prompts that all policies answered, evenly chosen, with answers and rewards."""
    responses = contents.responses
    if responses is None or not responses.prompts or not contents.prompts:
        return []
    places = np.unique(
        np.linspace(0, len(responses.prompts) - 1, min(contents.prompts, len(responses.prompts)))
        .round()
        .astype(int)
    ).tolist()
    rewards = _prompt_rewards(contents.portfolio, responses)
    names = [policy.id for policy in contents.portfolio.policies]
    rows = []
    for place in places:
        turns = [
            {"role": one["role"], "text": one["content"]}
            for one in messages(responses.prompts[place], role="user", name="prompt")
        ]
        answers = [
            [_text(one) for one in responses.answers[name][place]]
            if name in responses.answers
            else None
            for name in names
        ]
        kept = [answer for answer in answers if answer is not None]
        rows.append(
            {
                "label": one_line(turns[-1]["text"] if turns else "", _LABEL),
                "turns": turns,
                "answers": answers,
                "rewards": [
                    None if rewards[name] is None else rewards[name][place].tolist()
                    for name in names
                ],
                "differ": any(answer != kept[0] for answer in kept),
            }
        )
    return rows


def _prompt_rewards(portfolio: Portfolio, responses: RunResponses) -> dict[str, Any]:
    """Rewards per prompt by policy, where they are plainly of the prompts shown, in order."""
    found: dict[str, Any] = {}
    for policy in portfolio.policies:
        own = responses.found.get(policy.id)
        fits = (
            own is not None
            and policy.prompt_rewards is not None
            and own.prompts == responses.prompts
            and len(policy.prompt_rewards) == len(own.prompts)
        )
        found[policy.id] = policy.prompt_rewards if fits else None
    return found


def _text(completion: object) -> str:
    """What was answered; where a conversation was, each turn behind its role."""
    turns = messages(completion, role="assistant", name="completion")
    if len(turns) == 1:
        return turns[0]["content"]
    return "\n\n".join(f"[{one['role']}] {one['content']}" for one in turns)
