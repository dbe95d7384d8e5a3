"""``palm reproduce``: the paper's experiments on a task, and which of its claims hold there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from palm_core.plugin import Count, Flag, Folder, TaskFile, check_output_folder, output

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from palm_eval.paper.claims import Verdict
    from palm_eval.paper.study import Drawn, Experiment, Study


def reproduce(
    task: TaskFile,
    /,
    *,
    out: Folder | None = None,
    page: Folder | None = None,
    workers: Count | None = None,
    simulate: Count = 0,
    prompts: Count = 200,
    responses: Count = 2000,
    json: Flag = False,
) -> None:
    """Do the experiments of the paper's section 4 on a task.

        palm reproduce examples/safety_mini.toml --out runs/safety-study

    The oracle is asked at the weights of every grid of [study], of V and of all baselines;
    a study that was stopped goes on where it stood. A page tells what came out: tables,
    figures, and which of the paper's claims hold.

    Parameters
    ----------
    task
        A task file with a table [study].
    out
        The folder of the study, which keeps every answer; by default runs/study-NAME.
    page
        A folder for the page, its tables and figures; by default page, in the study's.
    workers
        How many oracle calls at once; by default as the task says.
    simulate
        Also so many simulated tasks with an exact oracle: how often the claims hold.
    prompts
        Of each simulated task.
    responses
        To each prompt of a simulated task.
    json
        Print one JSON document instead.
    """
    from dataclasses import replace

    from palm_core import answers_at
    from palm_core.plugin import (
        ARTIFACTS,
        ProgressDisplay,
        TaskOracle,
        check_count,
        load_task,
        oracle_versions,
        resumable,
    )
    from palm_eval.paper.page import Made, write_page
    from palm_eval.paper.study import distinct_weights, experiment, study_of

    for name, value, least in (
        ("simulate", simulate, 0),
        ("prompts", prompts, 1),
        ("responses", responses, 2),
    ):
        check_count(value, name=f"--{name}", least=least)
    if page is not None:
        check_output_folder(page, "--page")
    asked = load_task(task)
    study = study_of(asked, task.stem)
    folder = Path("runs") / f"study-{task.stem}" if out is None else out
    artifacts = folder.absolute() / ARTIFACTS
    source = TaskOracle(asked, artifacts)
    oracle = source()
    execution = asked.execution
    if workers is not None:
        execution = replace(execution, workers=workers)
    rows = distinct_weights(study.everything(len(oracle.objectives)))
    plain = {name: asked.resolved()[name] for name in ("oracle", "run")}
    again = ["palm", "reproduce", str(task), "--out", str(folder)]
    again += [] if workers is None else ["--workers", str(workers)]
    watch = ProgressDisplay(task.stem)
    with resumable(watch, again):
        answers = answers_at(
            oracle,
            rows,
            run_dir=folder,
            execution=execution,
            task=plain,
            source=source,
            progress=watch,
        )
    with output.waiting("comparing", None):
        found = experiment(study, tuple(oracle.objectives), answers, task=plain)
    size = {"seeds": simulate, "prompts": prompts, "responses": responses}
    simulated = []
    if simulate:
        simulated = _simulated(study, found.objectives, size, execution.workers)
    first = answers[0].policy.prompt_rewards
    made = Made(
        command=f"palm reproduce {task}" + (f" --simulate {simulate}" if simulate else ""),
        versions=oracle_versions(),
        oracle=plain["oracle"],
        calls=len(answers),
        seconds=sum(answer.seconds for answer in answers),
        prompts=0 if first is None else len(first),
    )
    files = write_page(
        folder / "page" if page is None else page,
        found,
        made,
        run=folder,
        simulated=simulated,
        drawn_tasks=f"Tasks of {prompts} prompts with {responses} responses each.",
    )
    if json:
        output.print_json(document(found, simulated) | {"files": list(map(str, files))})
        return
    _show(found, simulated)
    output.say()
    output.say(f"The page, with all tables and figures: {files[0]}")
    output.say(f"Every answer is kept in {folder}.")


def _simulated(
    study: Study, objectives: tuple[str, ...], size: Mapping[str, int], workers: int
) -> list[Drawn]:
    from palm_core.plugin import progress_bar
    from palm_eval.paper.study import simulate

    with progress_bar("simulated tasks", size["seeds"]) as told:
        return simulate(
            study,
            objectives,
            **size,
            workers=workers,
            progress=lambda done, _: told(done),
        )


def document(found: Experiment, simulated: Sequence[Drawn]) -> dict[str, Any]:
    """The results as plain values."""
    from palm_eval.paper.claims import Numbers, verdicts
    from palm_eval.paper.study import claim_rates

    def plain(told: Mapping[str, Verdict]) -> dict[str, Any]:
        return {
            key: {"holds": one.holds, "held": one.held, "of": len(one.checks)}
            for key, one in told.items()
        }

    return {
        "title": found.study.title,
        "claims": {
            name: plain(verdicts(Numbers.of(one)))
            for name, one in (("exact", found.exact), ("sampled", found.sampled))
        },
        "exact": found.exact.document(),
        "sampled": found.sampled.document(),
        "simulated": {
            gaps: {
                key: {"tasks": one.held, "of": one.of, "comparisons": share.share}
                for key, (one, share) in claim_rates(simulated, gaps).items()
            }
            for gaps in ("exact", "sampled")
        }
        if simulated
        else None,
    }


def _show(found: Experiment, simulated: Sequence[Drawn]) -> None:
    import sys

    from palm_eval.paper.page import verdict_text
    from palm_eval.paper.tables import claims_table, rates_table

    output.tell(verdict_text(found))
    output.say()
    sys.stdout.write(claims_table(found).render("text"))
    if simulated:
        output.say()
        sys.stdout.write(rates_table(simulated).render("text"))
