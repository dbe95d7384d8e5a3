"""What is told of an exported portfolio, in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_core.cli.output import number, percent
from palm_eval.report.words import headline, lead
from palm_trl.exporting.routing import serving

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palm_core.portfolio import Portfolio
    from palm_trl.exporting.gathering import Gathered


def described(portfolio: Portfolio) -> str:
    """How good the portfolio is, and what its weights are of."""
    text = " ".join([f"**{plain(headline(portfolio))}.**", *map(plain, lead(portfolio))])
    if portfolio.normalization.method == "none":
        return text
    return (
        f"{text} Weights are of rewards (less the regulariser) scaled to 0–1 over "
        f"{plain(portfolio.normalization.over) or 'the policies of the run'}."
    )


def model_table(gathered: Gathered) -> str:
    """A row for each model: trained for, serves, and its rewards."""
    names = gathered.portfolio.objectives
    rows = [
        [
            f"`{model.name}`",
            ", ".join(f"{weight:.2f}" for weight in model.policy.weights.tolist()),
            words,
            *(number(reward) for reward in model.policy.rewards.tolist()),
        ]
        for model, words in zip(gathered.models, serves_words(gathered.portfolio), strict=True)
    ]
    trained = f"trained for ({', '.join(names)})"
    return markdown_table(["model", trained, "serves", *names], rows)


def serves_words(portfolio: Portfolio) -> list[str]:
    """Of each policy the weights that it serves."""
    intervals, shares = serving(portfolio)
    found = []
    for interval, share in zip(intervals, shares, strict=True):
        if interval is not None:
            found.append(f"{interval.objective} from {interval.least:.3f} to {interval.most:.3f}")
        elif share > 0:
            found.append(f"{percent(share, 1)} of all weights")
        else:  # shares of four and more objectives are from samples
            sampled = len(portfolio.objectives) > 3
            found.append("hardly any weights" if sampled else "no range of weights")
    return found


def markdown_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose cells cannot end it."""
    lines = [list(headers), ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def plain(text: str) -> str:
    """Text from elsewhere that Markdown and HTML read nothing into."""
    escaped = text.replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;")
    for mark in "`*_[]":
        escaped = escaped.replace(mark, f"\\{mark}")
    return " ".join(escaped.split())


def fenced(text: str) -> str:
    """Text as code, whatever backticks are in it."""
    ticks = "`"
    while ticks in text:
        ticks += "`"
    return f"{ticks} {text} {ticks}" if "`" in text else f"`{text}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
