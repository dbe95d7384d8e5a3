"""A study's page: verdicts on the claims, tables, figures, provenance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from palm_core.plugin import Grid, one_line, write_atomically
from palm_eval.analysis.baselines import Pool
from palm_eval.analysis.figures import drawn_cells, drawn_grids, drawn_usage
from palm_eval.figures import Drawn, policy_styles, save
from palm_eval.paper.claims import Numbers, published, verdicts
from palm_eval.paper.tables import (
    budget_table,
    claims_table,
    exact_table,
    quality_table,
    rates_table,
    usage_table,
)
from palm_eval.responses import responses_of
from palm_eval.rewards.conversations import completion_text, prompt_text
from palm_eval.tables import make_table, markdown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from palm_core import Policy
    from palm_eval.paper.claims import Verdict
    from palm_eval.paper.study import Drawn as Simulated
    from palm_eval.paper.study import Experiment
    from palm_eval.tables import Table

#: The size of the portfolios in Table 2 of the paper.
_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Made:
    """Provenance of a study, for its reproduction.

    Args:
        command: the command line.
        versions: package → version.
        oracle: its name and its options in the task, as plain values.
        calls: number of oracle calls.
        seconds: total duration of all calls, from the ledger.
        prompts: number of prompts, or 0 if unknown.
    """

    command: str
    versions: Mapping[str, str]
    oracle: Mapping[str, Any]
    calls: int
    seconds: float
    prompts: int = 0


def write_page(
    out: Path,
    found: Experiment,
    made: Made,
    *,
    run: Path | None = None,
    simulated: Sequence[Simulated] = (),
    drawn_tasks: str = "",
) -> list[Path]:
    """Write ``index.md`` with its tables and figures into ``out``.

    Args:
        out: a folder, created if missing.
        found: the results of the study.
        made: its provenance.
        run: the folder of the policies' artifacts, for their answers.
        simulated: results of simulated tasks.
        drawn_tasks: a description of those tasks.

    Returns:
        The files written.

    Raises:
        WorkError: a file cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    drawn = figures_of(found)
    pictures = {name: save(one, out / f"{name}.svg") for name, one in drawn.items()}
    parts = [
        f"# {markdown(found.study.title)}: the paper's experiment",
        verdict_text(found),
        _table(claims_table(found)),
        _exceptions(found),
        "## Approximation quality",
        _table(quality_table(found)),
        _table(exact_table(found)),
        "## Usage",
        _table(usage_table(found)),
        *(_picture(drawn[n], pictures[n]) for n in ("usage",) if n in pictures),
        "## Oracle calls",
        _table(budget_table(found)),
        *(_picture(drawn[n], pictures[n]) for n in ("cells", "grids") if n in pictures),
    ]
    answers = None if run is None else answers_text(found, run)
    if answers:
        parts += ["## Answers", answers]
    if simulated:
        parts += ["## Simulated tasks", drawn_tasks, _table(rates_table(simulated))]
    parts += ["## Every pruning", _table(make_table("5", [found.exact]))]
    parts += ["## How this page was made", _made(found, made)]
    page = out / "index.md"
    write_atomically(page, ("\n\n".join(filter(None, parts)) + "\n").encode())
    return [page, *pictures.values()]


def verdict_text(found: Experiment) -> str:
    """A summary of the verdicts, in a paragraph."""
    by_claim = verdicts(Numbers.of(found.exact))
    hold = [one.claim for one in by_claim.values() if one.holds]
    fail = [one.claim for one in by_claim.values() if one.holds is False]
    kept = f"Over every weight {len(hold)} of {len(hold) + len(fail)} claims of the paper hold here"
    small = min(found.exact.methods["palm"].items(), key=lambda item: item[1].epsilon)
    best = (
        f"the best portfolio of PALM has {small[0]} policies and ε = {small[1].epsilon:.2%} "
        f"(at V: {found.sampled.methods['palm'][small[0]].epsilon:.2%})"
        if small[0] in found.sampled.methods["palm"]
        else f"the best portfolio of PALM has {small[0]} policies and ε = {small[1].epsilon:.2%}"
    )
    return (
        f"{kept}; {best}. PALM's entry at each size is the best of all its runs and prunings, as "
        "in the paper, chosen by the same gaps that are then reported; Uniform has one try"
        + (
            f", Random the mean of {found.study.random}."
            if found.study.random > 1
            else " and so has Random."
        )
    )


def _exceptions(found: Experiment) -> str:
    lines = []
    printed = {}
    if found.study.published is not None:
        printed = verdicts(Numbers.printed(published(found.study.published)))
    for title, by_claim in (
        ("In the paper's own numbers", printed),
        ("Here, over every weight", verdicts(Numbers.of(found.exact))),
    ):
        failing: list[Verdict] = [one for one in by_claim.values() if one.exceptions]
        if failing:
            lines.append(f"{title}, this does not hold:\n")
            for one in failing:
                shown = "; ".join(one.exceptions[:6])
                rest = len(one.exceptions) - 6
                lines.append(f"- {one.claim}: {shown}" + (f"; {rest} more" if rest > 0 else ""))
            lines.append("")
    return "\n".join(lines).strip()


def figures_of(found: Experiment) -> dict[str, Drawn]:
    """Figures 1, 2 and 3 of the paper, for this study."""
    d = len(found.objectives)
    drawn: dict[str, Drawn] = {}
    groups = {}
    size = max(found.exact.methods["palm"], default=0)
    pool = Pool.of(list(found.policies), found.objectives, "minmax")
    by_id = {policy.id: policy for policy in found.policies}
    for method, title in (("palm", "PALM"), ("uniform", "Uniform")):
        one = found.exact.methods[method].get(size)
        if one is not None:
            chosen = [by_id[name] for name in one.policies]
            groups[title] = pool.candidates.subset(pool.places(chosen))
    if groups:
        drawn["usage"] = drawn_usage(groups, policy_styles(*groups.values()))
    if d <= 3:
        largest = max(found.runs.values(), key=lambda run: len(run.answers))
        grid = largest.settings.asked
        assert isinstance(grid, Grid)
        rows = np.array([answer.weights for answer in largest.answers])
        tried = {
            "cells": drawn_cells("PALM", rows, found.objectives, seed=found.study.seed),
            "grids": drawn_grids(grid.mu, grid.alpha, found.objectives),
        }
        drawn |= {name: one for name, one in tried.items() if isinstance(one, Drawn)}
    return drawn


def answers_text(found: Experiment, run: Path) -> str:
    """Table 2: responses of the policies of both portfolios of size three to one prompt."""
    sizes = found.exact.methods["palm"].keys() & found.exact.methods["uniform"].keys()
    if not sizes:
        return ""
    size = min(sizes, key=lambda n: abs(n - _SHOWN))
    by_id = {policy.id: policy for policy in found.policies}
    portfolios = {
        title: [by_id[name] for name in found.exact.methods[method][size].policies]
        for method, title in (("palm", "PALM"), ("uniform", "Uniform"))
    }
    chosen: dict[str, Policy] = {one.id: one for several in portfolios.values() for one in several}
    responses = responses_of(run, list(chosen.values()))
    if not responses.prompts:
        return ""
    place = found.study.prompt
    if place is None:
        said = [
            len({completion_text(answers[number][0]) for answers in responses.answers.values()})
            for number in range(len(responses.prompts))
        ]
        place = said.index(max(said))
    place = min(place, len(responses.prompts) - 1)
    lines = [
        f"To the prompt “{one_line(prompt_text(responses.prompts[place]), 300)}”, "
        f"portfolios of {size} (Table 2 of the paper):",
        "",
        "| weights | in | answer |",
        "|---|---|---|",
    ]
    for policy in chosen.values():
        where = ", ".join(title for title, several in portfolios.items() if policy in several)
        weights = ", ".join(f"{value:.4g}" for value in policy.weights)
        answer = completion_text(responses.answers[policy.id][place][0])
        lines.append(f"| ({weights}) | {where} | {markdown(one_line(answer, 600))} |")
    return "\n".join(lines)


def _made(found: Experiment, made: Made) -> str:
    versions = ", ".join(f"{name} {value}" for name, value in made.versions.items())
    asked = ", ".join(f"{len(run.answers)} at {name}" for name, run in found.runs.items())
    rows = [
        f"- `{made.command}`",
        f"- {made.calls} oracle calls in {made.seconds:.0f} s of computing: {asked}; the others "
        "for V and the baselines",
        f"- objectives: {', '.join(found.objectives)}"
        + (f"; {made.prompts} prompts" if made.prompts else ""),
        f"- seed {found.study.seed}; {versions}",
        "- rewards less the regulariser, scaled to [0, 1] over all "
        f"{found.exact.candidates} policies found; every oracle call at the weights as they are",
    ]
    if found.missing:
        rows.append(f"- the oracle failed at {found.missing} weights, which are left out")
    return "\n".join(rows)


def _table(table: Table) -> str:
    return table.render("markdown").strip()


def _picture(drawn: Drawn, file: Path) -> str:
    return f"![{markdown(one_line(drawn.description, 1000))}]({file.name})\n\n*{drawn.caption}*"
