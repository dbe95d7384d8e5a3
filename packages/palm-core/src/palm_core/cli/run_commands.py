"""Commands on runs: ``oracles``, ``plan``, ``build`` and ``prune``."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from palm_core.cli import output

if TYPE_CHECKING:
    from palm_core.oracle import Oracle
    from palm_core.portfolio import Portfolio
    from palm_core.task import Task

Flag = Annotated[bool, Parameter(negative="", show_default=False)]


def oracles(*, json: Flag = False) -> None:
    """List the oracles that a task can name, and what to install for the others.

    Parameters
    ----------
    json
        Print one JSON document instead.
    """
    from palm_core.plugins import describe_oracles

    found = describe_oracles()
    if json:
        output.print_json(
            {
                "oracles": [
                    {
                        "name": info.name,
                        "installed": info.installed,
                        "package": info.distribution,
                        "version": info.version,
                        "factory": info.value,
                        "hint": info.hint,
                    }
                    for info in found
                ]
            }
        )
        return
    rows = [
        [
            info.name,
            info.distribution if not info.installed else f"{info.distribution} {info.version}",
            "installed" if info.installed else info.hint,
        ]
        for info in found
    ]
    output.table(["oracle", "package", ""], rows, left=3)
    output.say()
    output.say('An oracle of your own needs no package: [oracle] name = "module:factory"')


def plan(task_file: Annotated[Path, Parameter(name="TASK")], /, *, json: Flag = False) -> None:
    """Say what a task will cost and what it will guarantee, before anything is spent.

    Example: palm plan task.toml

    Parameters
    ----------
    task_file
        The task, a .toml file.
    json
        Print one JSON document instead.
    """
    from palm_core.grid import spaced
    from palm_core.planning import make_plan

    task, oracle = _load(task_file)
    made = make_plan(task, oracle)
    if json:
        output.print_json(made.document())
        return
    output.say(f"{task_file.stem} · {_objectives(made.objectives)} · oracle {task.oracle}")
    asked = task.settings
    count = "no limit" if made.calls is None else spaced(made.calls)
    if asked.target_epsilon is None:
        how = f"μ = {asked.mu:.4g}, α = {asked.alpha:.4g}"
        rows = [["oracle calls", count], ["grid", how]]
    else:
        rows = [
            ["oracle calls", count if made.calls is None else f"at most {count}"],
            ["adaptive", f"to ε = {asked.target_epsilon:.4g}"],
        ]
    share = "what the calls leave" if asked.prune_mu is None else f"{asked.prune_mu:.4g}"
    rows.append(["pruning", f"μ' = {share}, α' = {asked.prune_alpha:.4g}, {asked.method}"])
    output.table(["", ""], rows, left=2)
    output.say()
    for line in made.lines():
        output.say(line)


def build(
    task_file: Annotated[Path, Parameter(name="TASK")],
    /,
    *,
    out: Path,
    target: float | None = None,
    max_calls: int | None = None,
    json: Flag = False,
) -> None:
    """Ask the oracle for policies, on the task's grid or adaptively, and keep few of them.

    Every answer is kept as it arrives: run the same command again and it goes
    on where it stood.

    Example: palm build task.toml --out runs/first

    Parameters
    ----------
    task_file
        The task, a .toml file.
    out
        The run's folder, made where there is none.
    target
        Ask adaptively, until the portfolio is certified to be within this share
        of the best there is at every weight; in place of the task's grid.
    max_calls
        Stop asking after so many calls; the certificate is then wider.
    json
        Print one JSON document instead.
    """
    from palm_core.build import build_portfolio

    task, oracle = _load(task_file, target, max_calls)
    try:
        with output.progress(f"{task_file.stem}: oracle calls") as report:
            portfolio = build_portfolio(
                oracle,
                **asdict(task.settings),
                run_dir=out,
                task=task.resolved(),
                progress=report,
            )
    except KeyboardInterrupt:
        output.note(
            f"Stopped. The finished calls are kept; to go on: palm build {task_file} --out {out}"
        )
        raise
    if json:
        output.print_json(_document(portfolio))
        return
    output.say(f"{task_file.stem} · {_objectives(portfolio.objectives)} · oracle {task.oracle}")
    _show(portfolio)
    output.say()
    output.say(f"Saved in {out}. Other sizes, no oracle call: palm prune {out} --curve")
    example = output.example_weights(portfolio.objectives)
    output.say(f"Which policy for whom: palm route {out} --weights {example}")


def prune(
    run: Annotated[Path, Parameter(name="RUN")],
    /,
    *,
    mu: float | None = None,
    alpha: float | None = None,
    method: Literal["minimal", "greedy", "exact"] | None = None,
    solver: Literal["cbc", "highs"] | None = None,
    time_limit: float | None = None,
    curve: Flag = False,
    most: int = 8,
    save: Path | None = None,
    json: Flag = False,
) -> None:
    """Choose a portfolio of another size out of a run; no oracle call.

    Example: palm prune runs/first --mu 0.02 --method exact

    Parameters
    ----------
    run
        The folder of a run that palm build made.
    mu
        μ' in [0, 1]: how far from the best covers a weight, as a share.
    alpha
        α': the same as an amount, in units of reward.
    method
        minimal (fewest for every weight), or for the weights asked only: greedy
        (fast) or exact (fewest).
    solver
        Integer program solver; cbc comes with PuLP.
    time_limit
        Seconds for the integer program.
    curve
        Show what each further policy buys: the least gap of every size.
    most
        The largest size that --curve looks for.
    save
        Write the portfolio to this file (the run's own is left as it is).
    json
        Print one JSON document instead.
    """
    from palm_core.errors import InputError
    from palm_core.runs import Run

    made = Run.open(run)
    changes: dict[str, Any] = {
        "prune_mu": mu,
        "prune_alpha": alpha,
        "method": method,
        "solver": solver,
        "time_limit": time_limit,
    }
    settings = replace(made.settings, **{k: v for k, v in changes.items() if v is not None})
    if curve:
        for name, value in (("mu", mu), ("alpha", alpha), ("method", method), ("save", save)):
            if value is not None:
                raise InputError(f"--curve finds all sizes itself: it does not go with --{name}")
        output.show_curve(
            lambda: made.curve(most=most, time_limit=time_limit or 10.0),
            "policies",
            json=json,
        )
        return
    if mu is None and alpha is None and method is None:
        raise InputError("--mu is needed (or --alpha, --method); --curve shows all sizes")
    with output.waiting("looking for the fewest policies", settings.time_limit):
        portfolio = made.prune(settings)
    if save is not None:
        portfolio.save(save)
    if json:
        output.print_json(_document(portfolio))
        return
    _show(portfolio)
    if save is not None:
        output.note(f"Saved to {save}")


def _load(
    task_file: Path, target: float | None = None, max_calls: int | None = None
) -> tuple[Task, Oracle]:
    from palm_core.plugins import load_task_oracle
    from palm_core.task import load_task

    task = load_task(task_file, target_epsilon=target, max_calls=max_calls)
    return task, load_task_oracle(task)


def _objectives(names: tuple[str, ...]) -> str:
    return f"{len(names)} objectives: {', '.join(names)}"


def _document(portfolio: Portfolio) -> dict[str, Any]:
    pruning = portfolio.pruning
    return {
        "portfolio": [policy.id for policy in portfolio.policies],
        "oracle_calls": portfolio.oracle_calls,
        "candidates": portfolio.candidates,
        "objectives": list(portfolio.objectives),
        "gaps": portfolio.gaps,
        "certificate": portfolio.certificate,
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


def _show(portfolio: Portfolio) -> None:
    pruning, gaps = portfolio.pruning, portfolio.gaps
    assert pruning is not None
    assert gaps is not None
    size = len(portfolio)
    where = "every weight" if pruning.everywhere else "every weight asked"
    output.say(
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
        share = f"ε {output.percent(gaps.epsilon)}"
        if gaps.epsilon > 0 and gaps.epsilon_weights:
            share += f" at {output.weights_text(gaps.epsilon_weights, names)}"
    output.say(f"Against all {portfolio.candidates} policies found, at every weight, exactly:")
    output.say(f"  {share};  δ {output.number(gaps.delta)}")
    found = portfolio.certificate
    if found is not None:
        output.say("Against every policy there is, at every weight:")
        output.say(f"  {found.statement}")
        if found.stopped in STOPPED:
            output.say(f"  {STOPPED[found.stopped]}")
    slack = portfolio.slack
    if slack.measured > 0:
        output.say(
            f"Oracle slack: at {slack.measured_at} another policy found is better by "
            f"{output.number(slack.measured)}."
        )
    if pruning.negative_optima:
        output.say(
            f"At {pruning.negative_optima} of {pruning.weights} weights asked the best value is "
            "negative: a share of it means nothing, so only α' counted there."
        )
    if portfolio.theorem is not None:
        output.say(portfolio.theorem.statement)


STOPPED = {
    "slack": "The target was not reached: what is left is within the oracle's own slack.",
    "calls": "The target was not reached within the calls allowed (max_calls).",
}
