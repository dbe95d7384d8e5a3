"""``palm reproduce``: the paper's experiments and claims on a task."""

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
    """Run the experiments of the paper's section 4 on a task.

        palm reproduce examples/safety_mini.toml --out runs/safety-study

    The oracle is called at the weights of every grid in [study], of V and of all
    baselines. To resume an interrupted study, run the same command again. The results
    are a page with tables, figures and the paper's claims, each checked on the task.

    Parameters
    ----------
    task
        Task file (.toml) with a table [study].
    out
        Folder of the study and its answers. By default runs/study-NAME.
    page
        Folder for the page, its tables and figures. By default page in the study's folder.
    workers
        Number of parallel oracle calls. By default as in the task.
    simulate
        Number of simulated tasks with an exact oracle on which the claims are also
        checked.
    prompts
        Number of prompts of each simulated task.
    responses
        Number of responses to each prompt of a simulated task.
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
    output.say(f"Page with all tables and figures: {files[0]}")
    output.say(f"All answers are saved in {folder}.")


def _simulated(
    study: Study, objectives: tuple[str, ...], size: Mapping[str, int], workers: int
) -> list[Drawn]:
    from palm_core.plugin import progress_bar
    from palm_eval.paper.study import simulate

    with progress_bar("simulated tasks", size["seeds"]) as update:
        return simulate(
            study,
            objectives,
            **size,
            workers=workers,
            progress=lambda done, _: update(done),
        )


def document(found: Experiment, simulated: Sequence[Drawn]) -> dict[str, Any]:
    """The results as plain values."""
    from palm_eval.paper.claims import Numbers, verdicts
    from palm_eval.paper.study import claim_rates

    def plain(verdict_of: Mapping[str, Verdict]) -> dict[str, Any]:
        return {
            key: {"holds": verdict.holds, "held": verdict.held, "of": len(verdict.checks)}
            for key, verdict in verdict_of.items()
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
