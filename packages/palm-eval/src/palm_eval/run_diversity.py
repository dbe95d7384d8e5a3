"""How differently the policies of a portfolio answer, from the responses of its run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from palm_eval.diversity import distinct_n, self_bleu
from palm_eval.intervals import bootstrap_mean
from palm_eval.rewards.texts import completion_text
from palm_eval.run_intervals import plain_intervals
from palm_eval.run_responses import responses_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from palm_core import Policy
    from palm_eval.intervals import Interval


@dataclass(frozen=True, kw_only=True)
class RunDiversity:
    """Diversity of a portfolio's answers, means over prompts with bootstrap intervals.

    Measures are "distinct_1" and "distinct_2" (0 to 1, higher is more diverse) and
    "self_bleu" (0 to 100, lower is more diverse), see :mod:`palm_eval.diversity`. Compare
    those of sets of as many answers: a set of m texts of which no two differ has
    distinct-n 1/m at most.

    Args:
        together: of the portfolio's answers to the same prompt, one from each policy;
            empty where only one policy has responses.
        alone: policy id → of its own ``completions`` answers to the same prompt; without
            "self_bleu" where that is one.
        missing: policy id → why nothing is known of its answers.
        prompts: how many, those that all these policies answered.
        completions: how many of each policy to each prompt are compared: as many as every
            policy has to every prompt.
    """

    together: Mapping[str, Interval]
    alone: Mapping[str, Mapping[str, Interval]]
    missing: Mapping[str, str]
    prompts: int
    completions: int

    def document(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "together": plain_intervals(self.together),
            "alone": {name: plain_intervals(found) for name, found in self.alone.items()},
            "missing": dict(self.missing),
            "prompts": self.prompts,
            "completions": self.completions,
        }


def portfolio_diversity(
    run: str | Path, policies: Sequence[Policy], *, n_resamples: int = 2000, seed: int = 0
) -> tuple[RunDiversity | None, str]:
    """Measure how differently ``policies`` answered the prompts that all of them answered.

    Where policies gave several answers to a prompt, the diversity of one answer from each
    policy is averaged over first answers, second answers, and so on.

    Args:
        run: its folder.
        policies: the portfolio; those without responses are left out.
        n_resamples: of the bootstrap over prompts.
        seed: of the bootstrap.

    Returns:
        What was found and "", or ``None`` and why there is nothing.

    Raises:
        InputError: ``n_resamples`` below 100.
    """
    read = responses_of(run, policies)
    if not read.answers:
        first, why = next(iter(read.missing.items()), ("", "there are none"))
        return None, f"none of the portfolio's policies has responses; {first!r}: {why}"
    n = len(read.prompts)
    if n < 2:
        return (
            None,
            f"prompts that all {len(read.answers)} policies answered: {n}, at least 2 are needed",
        )
    most = min(len(several) for answers in read.answers.values() for several in answers)
    # texts[policy][k][prompt]: the k-th answer of a policy to a prompt
    texts = {
        name: [[completion_text(several[k]) for several in answers] for k in range(most)]
        for name, answers in read.answers.items()
    }

    def intervals(measured: Mapping[str, NDArray[np.float64]]) -> dict[str, Interval]:
        return {
            name: bootstrap_mean(values, n_resamples=n_resamples, seed=seed)
            for name, values in measured.items()
        }

    together: dict[str, Interval] = {}
    if len(texts) > 1:
        rounds = [_measures([own[k] for own in texts.values()]) for k in range(most)]
        together = intervals(
            {name: np.mean([found[name] for found in rounds], axis=0) for name in rounds[0]}
        )
    return RunDiversity(
        together=together,
        alone={name: intervals(_measures(own)) for name, own in texts.items()},
        missing=read.missing,
        prompts=n,
        completions=most,
    ), ""


def _measures(sets: Sequence[Sequence[str]]) -> dict[str, NDArray[np.float64]]:
    """(n_prompts,) of each measure, for m texts to each prompt."""
    found = {f"distinct_{n}": distinct_n(sets, n) for n in (1, 2)}
    if len(sets) > 1:
        found["self_bleu"] = self_bleu(sets)
    return found
