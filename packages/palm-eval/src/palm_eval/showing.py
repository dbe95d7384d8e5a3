"""An evaluation in words and numbers, as the command line and the report show it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_core.cli.output import number, percent
from palm_eval.run_baselines import baseline_label

if TYPE_CHECKING:
    from palm_eval.evaluation import Evaluation
    from palm_eval.measured import Figures


def figure_rows(found: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Headers, and a row each for the portfolio and its baselines."""
    v = found.samples
    headers = ["", "size", "calls", "ε", "δ", f"ε of {v}", f"δ of {v}", "perplexity", "utility"]
    headers += found.figures.metrics
    rows = [_row("portfolio", found.figures)]
    rows += [_row(baseline_label(name), one) for name, one in found.baselines.items()]
    return headers, rows


def _row(name: str, one: Figures) -> list[str]:
    return [
        name,
        str(one.size),
        str(one.oracle_calls),
        percent(one.epsilon),
        number(one.delta),
        percent(one.sampled_epsilon),
        number(one.sampled_delta),
        number(one.perplexity),
        number(one.expected_utility),
        *map(number, one.metrics.values()),
    ]
