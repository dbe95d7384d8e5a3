"""Contents of a report, gathered from a run; missing parts are listed with their reasons."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from palm_core import InputError, PalmError, Portfolio, open_run
from palm_core.plugin import check_count, is_folder
from palm_eval.analysis.baselines import baseline_label
from palm_eval.analysis.evaluation import SAMPLES, evaluate_run
from palm_eval.analysis.figures import is_selected, models_of, run_figures, selection_figures
from palm_eval.diversity import RunDiversity, portfolio_diversity
from palm_eval.responses import RunResponses, responses_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from palm_core import Oracle, PolicySet, Table
    from palm_eval.analysis.evaluation import Evaluation
    from palm_eval.figures import Drawn

    T = TypeVar("T")

#: The largest size on the curve, and the maximum of prompts on the page.
MOST, PROMPTS = 8, 200


@dataclass(frozen=True, kw_only=True, eq=False)
class ReportContents:
    """A portfolio and its evaluation, figures and responses.

    Args:
        path: the run's folder, or the portfolio's file.
        portfolio: with per-prompt rewards, if it is of a run that has them.
        candidates: all policies, in the space of the weights; ``None`` for a portfolio's
            file alone, which lacks them.
        evaluation: gaps, intervals and baselines, or ``None``.
        figures: by name.
        responses: of the portfolio's policies, or ``None``.
        diversity: of their answers to the same prompts, or ``None``.
        prompts: maximum of prompts shown.
        missing: the missing parts and their reasons, a sentence each.
    """

    path: Path
    portfolio: Portfolio
    candidates: PolicySet | None = None
    evaluation: Evaluation | None = None
    figures: dict[str, Drawn] = field(default_factory=dict)
    responses: RunResponses | None = None
    diversity: RunDiversity | None = None
    prompts: int = PROMPTS
    missing: tuple[str, ...] = ()


def gather_report(
    path: str | Path,
    *,
    oracle: Oracle | None = None,
    models: Table | None = None,
    most: int = MOST,
    prompts: int = PROMPTS,
    samples: int = SAMPLES,
    seed: int = 0,
) -> ReportContents:
    """Gather the contents of a report of a run or of a portfolio's file.

    A part that fails (a figure, the baselines) is left out and listed in ``missing``; the
    others are shown.

    Args:
        path: the folder of a finished run, or a file that ``Portfolio.save`` wrote.
        oracle: called for baselines, as by :func:`palm_eval.evaluate_run`.
        models: the table from which a portfolio's file was selected.
        most: the largest size on the size–gap curve.
        prompts: maximum of prompts shown.
        samples: |V| of the sampled gaps.
        seed: of V, the baselines and the bootstrap.

    Raises:
        InputError: no finished run or portfolio at ``path``, a number out of range, or
            ``models`` that the portfolio was not selected from.
    """
    check_count(most, name="most", least=1)
    check_count(prompts, name="prompts", least=0)
    check_count(samples, name="samples", least=1)
    check_count(seed, name="seed", least=0)
    path = Path(path)
    if not is_folder(path):
        return _of_file(path, models, most=most, prompts=prompts)
    if models is not None:
        raise InputError(f"models {models.source}: {path} is a run, which has its policies itself")
    run = open_run(path)
    portfolio = run.portfolio
    missing: list[str] = []
    evaluation = _try(
        lambda: evaluate_run(run, oracle=oracle, samples=samples, seed=seed), "Baselines", missing
    )
    if evaluation is not None:
        missing += [
            f"Not compared with {baseline_label(name)}: {why}."
            for name, why in evaluation.not_asked.items()
        ]
    drawn = _try(lambda: run_figures(run, most=most, oracle=oracle, seed=seed), "Figures", missing)
    figures, left_out = ({}, []) if drawn is None else drawn
    told = () if evaluation is None else tuple(map(baseline_label, evaluation.not_asked))
    missing += [note for note in left_out if not note.startswith(told)]
    responses = responses_of(path, portfolio.policies)
    if responses.found:  # else the section on answers gives the reason
        missing += [f"Answers of {name}: {why}." for name, why in responses.missing.items()]
    return ReportContents(
        path=path,
        portfolio=portfolio,
        candidates=run.evaluated.candidates,
        evaluation=evaluation,
        figures=figures,
        responses=responses,
        diversity=portfolio_diversity(path, portfolio.policies, seed=seed)[0],
        prompts=prompts,
        missing=tuple(missing),
    )


def _of_file(path: Path, models: Table | None, *, most: int, prompts: int) -> ReportContents:
    """The contents for a portfolio's file and the models from which it was selected."""
    portfolio = Portfolio.load(path)
    if models is None:
        where = (
            "the table it was selected from has the other models (--models)"
            if is_selected(portfolio)
            else "a run's folder has the policies it was chosen from"
        )
        note = (
            "Distances at one weight vector, figures and answers: this is a portfolio by itself; "
            f"{where}."
        )
        return ReportContents(path=path, portfolio=portfolio, prompts=prompts, missing=(note,))
    candidates = models_of(portfolio, models)
    missing: list[str] = []
    drawn = _try(lambda: selection_figures(portfolio, candidates, most=most), "Figures", missing)
    found, left_out = ({}, []) if drawn is None else drawn
    return ReportContents(
        path=path,
        portfolio=portfolio,
        candidates=candidates,
        figures=found,
        prompts=prompts,
        missing=(*missing, *left_out),
    )


def _try(make: Callable[[], T], what: str, missing: list[str]) -> T | None:
    try:
        return make()
    except PalmError as error:
        missing.append(f"{what}: {error}.")
        return None
