"""A portfolio in words and as a JSON document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from palm_core.cli import output

if TYPE_CHECKING:
    from palm_core.portfolio import Portfolio


def objectives(names: tuple[str, ...]) -> str:
    """Write "2 objectives: helpful, brief"."""
    return f"{len(names)} objectives: {', '.join(names)}"


def document(portfolio: Portfolio) -> dict[str, Any]:
    """What ``--json`` prints of a portfolio."""
    pruning = portfolio.pruning
    return {
        "portfolio": [policy.id for policy in portfolio.policies],
        "oracle_calls": portfolio.oracle_calls,
        "candidates": portfolio.candidates,
        "objectives": list(portfolio.objectives),
        "gaps": portfolio.gaps,
        "certificate": portfolio.certificate,
        "missing": portfolio.missing,
        "theorem": portfolio.theorem,
        "slack": portfolio.slack,
        "pruning": pruning,
        "policies": [
            {
                "id": policy.id,
                "weights": policy.weights.tolist(),
                "rewards": policy.rewards.tolist(),
                "regularizer": policy.regularizer,
                "artifact": policy.artifact,
            }
            for policy in portfolio.policies
        ],
    }


def show(portfolio: Portfolio) -> None:
    """Print a portfolio: what is enough, which policies, and what is proven."""
    pruning, gaps = portfolio.pruning, portfolio.gaps
    assert pruning is not None
    assert gaps is not None
    size = len(portfolio)
    asked = "every weight answered" if portfolio.missing else "every weight asked"
    where = "every weight" if pruning.everywhere else asked
    output.tell(
        f"{size} of {portfolio.candidates} policies {'is' if size == 1 else 'are'} enough "
        f"({portfolio.oracle_calls} oracle calls): at {where} the best of them is "
        f"within {output.percent(pruning.mu)}"
        + (f" plus {pruning.alpha:g}" if pruning.alpha else "")
        + " of the best found."
    )
    if pruning.status == "optimal" and size > 1:
        output.say(f"No fewer will do (proven, {pruning.solver}).")
    elif pruning.status != "optimal":
        output.say(f"At least {pruning.lower_bound} are needed (proven).")
    output.say()
    regularized = any(policy.regularizer for policy in portfolio.policies)
    headers = ["policy", *portfolio.objectives] + ["regulariser"] * regularized
    rows = []
    for policy in portfolio.policies:
        cells = [policy.id, *map(output.number, policy.rewards.tolist())]
        rows.append(cells + [output.number(policy.regularizer)] * regularized)
    output.table(headers, rows)
    output.say()
    names = portfolio.objectives
    if gaps.epsilon is None:
        share = "no finite ε (the best value is not positive at some weight)"
    else:
        share = f"ε {output.percent(gaps.epsilon, up=True)}"
        if gaps.epsilon > 0 and gaps.epsilon_weights:
            share += f" at {output.weights_text(gaps.epsilon_weights, names)}"
    output.say(f"Against all {portfolio.candidates} policies found, at every weight, exactly:")
    output.tell(f"{share};  δ {output.number(gaps.delta, up=True)}", indent=2)
    found = portfolio.certificate
    if found is not None:
        output.say("Against every policy there is, at every weight:")
        output.tell(found.statement, indent=2)
        if found.stopped not in (None, "target") and found.epsilon is None:
            where = output.weights_text(found.epsilon_weights or [], names)
            output.tell(
                f"{BELOW_ZERO} (at {where} the portfolio is)." if where else f"{BELOW_ZERO}.",
                indent=2,
            )
            output.tell(CURE, indent=2)
        elif found.stopped in STOPPED:
            output.tell(STOPPED[found.stopped], indent=2)
    _show_missing(portfolio)
    slack = portfolio.slack
    if slack.measured > 0:
        output.tell(
            f"Oracle slack: at {slack.measured_at} another policy found is better by "
            f"{output.number(slack.measured)}."
        )
    if pruning.negative_optima:
        output.tell(
            f"At {pruning.negative_optima} of {pruning.weights} weights asked the best value is "
            "negative: a share of it means nothing, so only α' counted there."
        )
    if portfolio.theorem is not None:
        output.tell(portfolio.theorem.statement)


def _show_missing(portfolio: Portfolio) -> None:
    missing = portfolio.missing
    if not missing:
        return
    count = "1 weight has" if len(missing) == 1 else f"{len(missing)} weights have"
    output.say(f"{count} no answer, the oracle failed there at every attempt:")
    for item in missing[:SHOWN]:
        where = output.weights_text(item.weights, portfolio.objectives)
        output.tell(f"{where}: {item.message} ({item.attempts} attempts)", indent=2)
    if len(missing) > SHOWN:
        output.say(f"  and {len(missing) - SHOWN} more")
    vertex = next((item for item in missing if max(item.weights) == 1.0), None)
    if vertex is not None and portfolio.certificate is None:
        where = output.weights_text(vertex.weights, portfolio.objectives)
        output.tell(
            "Nothing is certified against policies that were not found: that takes an answer "
            f"at {where}."
        )
    elif portfolio.certificate is not None:
        output.say("What is certified above does without them.")


#: Weights without an answer that are listed; the others are in the portfolio.
SHOWN = 5

BELOW_ZERO = (
    "The target was not reached: values are below 0, where a share of the best means nothing"
)
CURE = (
    "Scale the oracle's rewards to be at least 0, by limits known beforehand: (r - lower)/(upper "
    "- lower). Or ask for a gap in units of reward: palm_core.AdaptiveGrid(target_delta=...)."
)
STOPPED = {
    "slack": "The target was not reached: what is left is within the oracle's own slack.",
    "calls": "The target was not reached within the calls allowed (max_calls).",
    "failures": "The target was not reached: the oracle failed where it would have to be asked.",
}
