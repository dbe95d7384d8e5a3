"""Diversity of a portfolio's responses to the same prompt.

The functions of texts take ``responses[policy][prompt]`` and return one value per prompt,
over the set of all policies' responses to it, so that intervals over prompts can be had
(:func:`palm_eval.intervals.bootstrap_mean`); the figure to report is their mean.

* distinct-n: Li et al., "A diversity-promoting objective function for neural
  conversation models" (NAACL 2016).
* self-BLEU: Zhu et al., "Texygen: a benchmarking platform for text generation models"
  (SIGIR 2018); BLEU as in Post, "A call for clarity in reporting BLEU scores" (WMT 2018).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from palm_core import InputError
from palm_core.plugin import check_choice, check_count
from palm_eval.analysis.intervals import plain_intervals
from palm_eval.intervals import bootstrap_mean
from palm_eval.responses import responses_of
from palm_eval.rewards.conversations import completion_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from palm_core import Policy, Run
    from palm_eval.intervals import Interval

    Array = NDArray[np.float64]
    Responses = Sequence[Sequence[str]]


def distinct_n(
    responses: Responses, n: int = 2, *, tokenize: Callable[[str], Sequence[str]] = str.split
) -> Array:
    """Distinct n-grams as a share of all n-grams, per prompt: (n_prompts,), in [0, 1].

    Higher is more diverse; m identical responses without repetition score 1/m. Li et al.
    divide by the number of tokens, which is the same for n = 1; for longer n-grams the
    usual denominator, the number of n-grams, is taken, so that 1 can be reached. Longer
    responses score lower by themselves: compare at similar lengths.

    Args:
        responses: (m policies) × (n_prompts) texts.
        n: length of the n-grams.
        tokenize: from a text to its tokens; white space by default.

    Returns:
        Array (n_prompts,); 0 where no response has n tokens.

    Raises:
        InputError: n below 1, no responses, or policies with different prompt counts.

    Example:
        >>> distinct_n([["a b c"], ["a b d"]], n=2)
        array([0.75])
    """
    n = check_count(n, name="n", least=1)
    found = []
    for answers in _per_prompt(responses, least=1):
        grams = [
            tuple(tokens[start : start + n])
            for tokens in map(list, map(tokenize, answers))
            for start in range(len(tokens) - n + 1)
        ]
        found.append(len(set(grams)) / len(grams) if grams else 0.0)
    return np.array(found)


def self_bleu(responses: Responses, *, tokenize: str = "13a", max_order: int = 4) -> Array:
    """Mean BLEU of each response against the others' as references, per prompt: 0 to 100.

    Lower is more diverse; identical responses score 100. Sentence BLEU by sacrebleu, with
    its exponential smoothing and effective order (short responses are scored on the
    n-grams that they have).

    Args:
        responses: (m ≥ 2 policies) × (n_prompts) texts.
        tokenize: sacrebleu's tokenizer: "13a", "intl", "char", "zh", "none", …
        max_order: longest n-gram.

    Returns:
        Array (n_prompts,).

    Raises:
        InputError: fewer than two policies, policies with different prompt counts, an
            unknown tokenizer, or max_order below 1.

    Example:
        >>> self_bleu([["the cat sat down"], ["the cat sat down"]]).round(6)
        array([100.])
    """
    from sacrebleu.metrics.bleu import BLEU

    max_order = check_count(max_order, name="max_order", least=1)
    check_choice(tokenize, tuple(BLEU.TOKENIZERS), name="tokenize")
    bleu = BLEU(tokenize=tokenize, max_ngram_order=max_order, effective_order=True)
    found = []
    for answers in _per_prompt(responses, least=2):
        scores = [
            bleu.sentence_score(answer, [*answers[:place], *answers[place + 1 :]]).score
            for place, answer in enumerate(answers)
        ]
        found.append(float(np.mean(scores)))
    return np.array(found)


def embedding_distance(responses: Responses, embed: Callable[[list[str]], ArrayLike]) -> Array:
    """Mean cosine distance 1 − cos(a, b) over all pairs of policies, per prompt: 0 to 2.

    Higher is more diverse in meaning, as far as the embedding represents meaning.

    Args:
        responses: (m ≥ 2 policies) × (n_prompts) texts.
        embed: from a list of texts to their vectors (len, k). It is called once, with
            every distinct text once; for example ``SentenceTransformer(name).encode``.

    Returns:
        Array (n_prompts,).

    Raises:
        InputError: fewer than two policies, policies with different prompt counts, or
            vectors of another shape, not finite or zero.

    Example:
        >>> embedding_distance([["x"], ["y"]], lambda texts: [[1, 0], [0, 1]])
        array([1.])
    """
    prompts = _per_prompt(responses, least=2)
    texts = list(dict.fromkeys(answer for answers in prompts for answer in answers))
    vectors = np.asarray(embed(texts), dtype=np.float64)
    if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
        raise InputError(
            f"embed: must give {len(texts)} finite vectors, gave an array {vectors.shape}"
        )
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (length > 0).all():
        text = texts[int(np.argmin(length[:, 0]))]
        raise InputError(f"embed: the vector of {text[:40]!r} is zero, must have a direction")
    units = vectors / length
    place = {text: row for row, text in enumerate(texts)}
    found = []
    for answers in prompts:
        pairs = combinations([place[answer] for answer in answers], 2)
        # Equal texts have distance exactly 0, without rounding.
        apart = [0.0 if a == b else max(0.0, 1.0 - units[a] @ units[b]) for a, b in pairs]
        found.append(float(np.mean(apart)))
    return np.array(found)


def _per_prompt(responses: Responses, *, least: int) -> list[list[str]]:
    """The responses of all policies, prompt by prompt."""
    rows = [list(answers) for answers in responses]
    if len(rows) < least:
        raise InputError(f"responses: of {len(rows)} policies, must be of at least {least}")
    sizes = {len(row) for row in rows}
    if len(sizes) != 1 or not all(sizes):
        shown = ", ".join(str(len(row)) for row in rows[:8])
        raise InputError(
            f"responses: must have one for each prompt from every policy, have {shown} prompts"
        )
    for policy, row in enumerate(rows):
        for prompt, text in enumerate(row):
            if not isinstance(text, str):
                raise InputError(f"responses[{policy}][{prompt}] = {text!r:.60}: must be text")
    return [list(answers) for answers in zip(*rows, strict=True)]


@dataclass(frozen=True, kw_only=True)
class RunDiversity:
    """Diversity of a portfolio's answers, means over prompts with bootstrap intervals.

    Measures are "distinct_1" and "distinct_2" (0 to 1, higher is more diverse) and
    "self_bleu" (0 to 100, lower is more diverse), see :mod:`palm_eval.diversity`. Compare
    only sets of equal size: a set of m identical texts has distinct-n 1/m at most.

    Args:
        together: of the portfolio's answers to the same prompt, one from each policy;
            empty if only one policy has responses.
        alone: policy id → of its own ``completions`` answers to the same prompt; without
            "self_bleu" if there is only one.
        missing: policy id → the reason why its answers are unknown.
        prompts: number of prompts that all these policies answered.
        completions: number of answers compared per policy and prompt: the minimum over
            policies and prompts.
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
    """Measure the diversity of the answers of ``policies`` to their common prompts.

    Where policies gave several answers to a prompt, the diversity of one answer from each
    policy is averaged over first answers, second answers, and so on.

    Args:
        run: its folder.
        policies: the portfolio; those without responses are left out.
        n_resamples: of the bootstrap over prompts.
        seed: of the bootstrap.

    Returns:
        The diversity and "", or ``None`` and the reason.

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


def diversity(run: Run) -> RunDiversity | None:
    """Diversity of the portfolio's answers (``Run.diversity``); ``None`` without responses."""
    if run.folder is None:
        return None
    return portfolio_diversity(run.folder, run.portfolio.policies)[0]


def _measures(sets: Sequence[Sequence[str]]) -> dict[str, NDArray[np.float64]]:
    """(n_prompts,) of each measure, for m texts to each prompt."""
    found = {f"distinct_{n}": distinct_n(sets, n) for n in (1, 2)}
    if len(sets) > 1:
        found["self_bleu"] = self_bleu(sets)
    return found
