"""Sentences of a report: headline, promise, proof, diversity."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from palm_core.plugin import bound_text, number_text, percent_text, weights_text
from palm_eval.analysis.figures import is_selected

if TYPE_CHECKING:
    from palm_core import Portfolio
    from palm_eval.analysis.evaluation import Evaluation
    from palm_eval.diversity import RunDiversity

# Maximum of listed weights without an answer.
_SHOWN = 5


def headline(portfolio: Portfolio) -> str:
    """One sentence: how many policies serve every preference, and how well."""
    size = len(portfolio)
    start = "1 policy serves" if size == 1 else f"{size} policies serve"
    certificate, gaps = portfolio.certificate, portfolio.gaps
    if certificate is not None and math.isfinite(certificate.epsilon):
        condition = f" if {_premise(portfolio)}" if certificate.conditional_on else ""
        return f"{start} every preference within {_share(certificate.epsilon)}{condition}"
    if gaps is not None and math.isfinite(gaps.epsilon):
        others = (
            f"the {portfolio.candidates} {'given' if is_selected(portfolio) else 'policies found'}"
        )
        return f"{start} every preference within {_share(gaps.epsilon)} of the best of {others}"
    if gaps is not None:
        return f"{start} every preference within {bound_text(gaps.delta)} of the best found"
    return f"{start} every preference"


def lead(portfolio: Portfolio) -> list[str]:
    """The headline in full detail."""
    names = _listed(portfolio.objectives)
    size, certificate = len(portfolio), portfolio.certificate
    which = "the one policy" if size == 1 else f"the best of the {size}"
    whoever = f"However a user weighs {names},"
    sentences = []
    if certificate is not None and math.isfinite(certificate.epsilon):
        sentences.append(
            f"{whoever} {which} is at most {_share(certificate.epsilon)} below the best policy "
            "that the oracle could give, asked for it or not"
            + (
                f", conditional on {certificate.conditional_on}."
                if certificate.conditional_on
                else "."
            )
        )
    elif portfolio.gaps is not None and math.isfinite(portfolio.gaps.epsilon):
        sentences.append(
            f"{whoever} {which} is at most {_share(portfolio.gaps.epsilon)} below the best of "
            f"the {portfolio.candidates} {_those(portfolio)}."
            + (
                ""
                if is_selected(portfolio)
                else " Against policies that were not found nothing is certified."
            )
        )
    elif portfolio.gaps is not None:
        sentences.append(
            f"{whoever} {which} is at most {bound_text(portfolio.gaps.delta)} below the best of "
            "the "
            f"{portfolio.candidates} {_those(portfolio)}, in units of reward. The best "
            "value is not positive at some weight vector, so a share of it means nothing."
        )
    return sentences


def promise(portfolio: Portfolio) -> str:
    """The guarantee that holds for all weights, or ""."""
    certificate, gaps = portfolio.certificate, portfolio.gaps
    if certificate is not None and math.isfinite(certificate.epsilon):
        condition = " (conditional, see below)" if certificate.conditional_on else ""
        return (
            f"Certified for every weight vector{condition}: at most {_share(certificate.epsilon)} "
            "below the best policy that the oracle could give."
        )
    if gaps is not None:
        most = bound_text(gaps.delta) if math.isinf(gaps.epsilon) else f"{_share(gaps.epsilon)}"
        others = "of all that were given" if is_selected(portfolio) else "policy found"
        return f"For every weight vector: at most {most} below the best {others}."
    return ""


def proof(portfolio: Portfolio, evaluation: Evaluation | None) -> list[tuple[str, str]]:
    """Titles and paragraphs: what is proven, from which premises, and what is not."""
    found = [_exact(portfolio), _certificate(portfolio), _fewer(portfolio)]
    if portfolio.theorem is not None:
        found.append(("Before the first call", f"{portfolio.theorem.statement}."))
    found += [_missing(portfolio), _slack(portfolio), _prompts(evaluation)]
    return [(title, text) for title, text in found if text]


def diversity(found: RunDiversity | None) -> str:
    """A sentence on the diversity of the portfolio's answers, or ""."""
    if found is None or not found.together:
        return ""
    said = [
        f"{name} {number_text(float(one.value))} ({number_text(float(one.lower))} to "
        f"{number_text(float(one.upper))})"
        for key, name in (("distinct_1", "distinct-1"), ("self_bleu", "self-BLEU"))
        if (one := found.together.get(key)) is not None
    ]
    return (
        f"Answers of all {len(found.alone)} policies to the same prompt, over {found.prompts} "
        f"prompts: {', '.join(said)}, with 95% intervals. The more different they are, the "
        "higher is distinct-1 (different words among all) and the lower self-BLEU (0 to 100)."
    )


def _exact(portfolio: Portfolio) -> tuple[str, str]:
    gaps = portfolio.gaps
    if gaps is None:
        return "", ""
    names = portfolio.objectives
    share = ""
    if 0 < gaps.epsilon < math.inf and gaps.epsilon_weights is not None:
        worst = weights_text(gaps.epsilon_weights, names)
        share = f"The most that a user loses is {percent_text(gaps.epsilon)}, at {worst}"
    elif math.isfinite(gaps.epsilon):
        share = f"The most that a user loses is {percent_text(gaps.epsilon)}"
    else:
        share = "The best value is not positive at some weight vector, where no share can be given"
    return (
        f"Against every policy that was {'given' if is_selected(portfolio) else 'found'}",
        f"{share}; in units of reward it is {number_text(gaps.delta)}. Both are exact: what a "
        "policy is worth is a linear function of the weights, so the worst weight vector of all is "
        "found by linear programming, not by trying a sample of them.",
    )


def _certificate(portfolio: Portfolio) -> tuple[str, str]:
    title, found = "Against every policy there is", portfolio.certificate
    if found is None:
        return title, f"Nothing is certified: {_uncertified(portfolio)}."
    if math.isinf(found.epsilon):
        share = f"No share is certified ({found.note})" if found.note else "No share is certified"
    else:
        share = (
            "No policy that the oracle could give, asked for it or not, is better by more than "
            f"{_share(found.epsilon)}"
        )
    text = (
        f"{share}, or {bound_text(found.delta)} in units of reward, at any weight vector. "
        "The best value "
        "that policies can have is a convex function of the weights, and the oracle has said what "
        f"it is at {_count(portfolio.oracle_calls, 'weight vector')}; between them it cannot be "
        "above the convex hull of those values."
    )
    if found.conditional_on:
        text += f" That is conditional on {found.conditional_on}."
    else:
        text += " It takes the oracle at its word: that each answer is the best for its weights."
    return title, text


def _those(portfolio: Portfolio) -> str:
    return "there were to choose from" if is_selected(portfolio) else "policies that were found"


def _uncertified(portfolio: Portfolio) -> str:
    """The reason for a missing certificate (:func:`palm_core.run.assembly.assemble`)."""
    if is_selected(portfolio):
        return "the policies were there, and no oracle has said how good others could be"
    if portfolio.slack.claimed_epsilon >= 1:
        return "the oracle does not claim that its answers are near the best it could give"
    if portfolio.normalization.method != "none":
        return (
            "weights are of rewards scaled after the oracle had answered, and its answers are not "
            "the best for those"
        )
    vertices = [one for one in portfolio.missing if max(one.weights) == 1.0]
    if vertices:
        where = weights_text(vertices[0].weights, portfolio.objectives)
        return f"that takes an answer of the oracle at {where}, where it failed"
    return "this portfolio comes without a certificate"


def _fewer(portfolio: Portfolio) -> tuple[str, str]:
    pruning = portfolio.pruning
    if pruning is None:
        return "", ""
    share, amount = pruning.tolerance
    asked = f"within {percent_text(share)}" + (f" plus {number_text(amount)}" if amount else "")
    where = "at every weight vector" if pruning.everywhere else "at every weight vector asked"
    size = len(portfolio)
    if pruning.status == "optimal":
        text = f"{size} is the least number of them that stays {asked} of the best found {where}"
        return "Why not fewer", f"{text}: proven ({pruning.solver})."
    return (
        "Why not fewer",
        f"{size} of them stay {asked} of the best found {where}; at least "
        f"{pruning.lower_bound} are needed. Whether fewer than {size} would do is not proven "
        f"(method: {pruning.method}).",
    )


def _missing(portfolio: Portfolio) -> tuple[str, str]:
    missing = portfolio.missing
    if not missing:
        return "", ""
    listed = "; ".join(
        f"{weights_text(one.weights, portfolio.objectives)}: {one.message}"
        for one in missing[:_SHOWN]
    )
    more = f"; and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    return (
        "Where the oracle failed",
        f"{_count(len(missing), 'weight vector')} of those asked {_have(len(missing))} no answer "
        f"({listed}{more}). What is said above does without.",
    )


def _slack(portfolio: Portfolio) -> tuple[str, str]:
    slack = portfolio.slack
    if not slack.measured:
        return "", ""
    return (
        "How good the oracle is",
        f"At {slack.measured_at} another policy found is better than the oracle's answer, by "
        f"{number_text(slack.measured)}: the oracle is not exact."
        + (
            f" That refutes its claim to be within ({slack.claimed_epsilon:g}, "
            f"{slack.claimed_delta:g}) of the best."
            if slack.refuted
            else ""
        ),
    )


def _premise(portfolio: Portfolio) -> str:
    """The premise of a conditional certificate, in a few words."""
    if portfolio.certificate is not None and portfolio.certificate.refuted:
        return "the best policies found are as good as is assumed of the oracle"
    if portfolio.slack.claimed or portfolio.slack.claimed_epsilon or portfolio.slack.claimed_delta:
        return "the oracle is as good as it claims"
    return "the oracle's answers are the best, which it does not claim"


def _prompts(evaluation: Evaluation | None) -> tuple[str, str]:
    title = "With other prompts"
    if evaluation is None:
        return "", ""
    if evaluation.intervals is None:
        return title, (
            "How much of this depends on the prompts that rewards were measured on is not known: "
            f"{evaluation.no_intervals}."
        )
    one, other = evaluation.intervals["epsilon"], evaluation.intervals["delta"]
    if float(other.upper) == 0.0:
        return title, (
            f"Rewards are means over {one.n_prompts} prompts. Whichever of them are drawn, no "
            "policy that was found is ever better than the portfolio."
        )
    return title, (
        f"Rewards are means over {one.n_prompts} prompts. With other prompts of the same kind the "
        f"gap to the best policy found would lie between {percent_text(float(one.lower))} and "
        f"{percent_text(float(one.upper))} ({number_text(float(other.lower))} to "
        f"{number_text(float(other.upper))} in units of reward), with {one.level:.0%} confidence "
        f"(bootstrap over prompts, {one.method}). The certificate above takes rewards as they "
        "were measured."
    )


def _listed(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _count(n: int, what: str) -> str:
    return f"1 {what}" if n == 1 else f"{n} {what}s"


def _have(n: int) -> str:
    return "has" if n == 1 else "have"


def _share(bound: float) -> str:
    return f"{bound_text(bound, percent=True)}\u00a0%"
