"""The figures of a selection from a table, with their captions and descriptions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_core import size_gap_curve
from palm_core.simplex import check_count
from palm_eval import figures
from palm_eval.drawn_figures import drawn_front, drawn_usage
from palm_eval.figures import Drawn

if TYPE_CHECKING:
    from palm_core import PolicySet, Portfolio


def selection_figures(
    portfolio: Portfolio, models: PolicySet, *, most: int = 8
) -> tuple[dict[str, Drawn], list[str]]:
    """Draw a portfolio and the models that it was selected from.

    ``usage``, ``front`` and ``curve``, as :func:`palm_eval.run_figures.run_figures` draws
    them of a run. Nobody was asked at any weights, so there are none to draw.

    Args:
        portfolio: what ``palm select --save`` wrote.
        models: all of them, from :func:`palm_eval.selected_models.models_of`.
        most: the largest size on the curve.

    Returns:
        The figures by name, and what is left out and why, a sentence each.

    Raises:
        InputError: ``most`` out of range, or other objectives.
        WorkError: a solver failed.
    """
    check_count(most, name="most", least=1)
    styles = figures.policy_styles(portfolio.policy_set)
    method = portfolio.normalization.method
    drawn = {
        "usage": drawn_usage({"portfolio": portfolio.policy_set}, styles),
        "front": drawn_front(portfolio.policy_set, models, styles, scaled=method),
    }
    curve = size_gap_curve(models, most=most)
    if not curve:
        return drawn, [f"curve: not drawn, no portfolio of {most} is within 100 % at every weight"]
    drawn["curve"] = Drawn(
        figure=figures.curve_figure(curve),
        title="What each further model buys",
        caption=(
            "The gap is the largest share of the best value that any user loses, against all "
            f"{len(models)} models of the table. Each step down is what one more model gains."
        ),
        description=figures.curve_description(curve),
    )
    return drawn, []
