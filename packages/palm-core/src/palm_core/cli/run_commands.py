"""The commands of runs: plan, build, prune, status."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from palm_core.cli import output
from palm_core.cli.commands import has_command
from palm_core.cli.model_commands import MOST
from palm_core.cli.parameters import (
    Count,
    File,
    Flag,
    Folder,
    Number,
    RunFolder,
    TaskFile,
    check_curve,
    check_portfolio_file,
)
from palm_core.cli.progress import ProgressDisplay, resumable
from palm_core.validation import number_text, percent_text, weights_text

if TYPE_CHECKING:
    from palm_core.model.portfolio import Portfolio
    from palm_core.run.run import RunStatus


def oracles(*, json: Flag = False) -> None:
    """List the oracles that a task file can name.

        palm oracles

    Oracles that are not installed are listed with the packages to install.

    Parameters
    ----------
    json
        Print one JSON document instead.
    """
    from palm_core.oracles.registry import describe_oracles

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
    output.say('Your own oracle needs no package: [oracle] name = "module:factory"')


def plan(task_file: TaskFile, /, *, json: Flag = False) -> None:
    """Show a task's number of oracle calls and its guarantee.

        palm plan task.toml

    Parameters
    ----------
    task_file
        Task file (.toml).
    json
        Print one JSON document instead.
    """
    from palm_core.run.config import load_task, load_task_oracle
    from palm_core.run.plan import make_plan
    from palm_core.weights.grid import spaced

    task = load_task(task_file)
    made = make_plan(task, load_task_oracle(task))
    if json:
        output.print_json(made.document())
        return
    output.say(f"{task_file.stem} · {output.objectives(made.objectives)} · oracle {task.oracle}")
    from palm_core.run.config import Grid

    asked, pruning = task.settings.asked, task.settings.pruning
    count = "no limit" if made.calls is None else spaced(made.calls)
    if isinstance(asked, Grid):
        how = f"μ = {asked.mu:.4g}, α = {asked.alpha:.4g}"
        rows = [["oracle calls", count], ["grid", how]]
    else:
        rows = [
            ["oracle calls", count if made.calls is None else f"at most {count}"],
            ["adaptive", f"to ε = {asked.target_epsilon:.4g}"],
        ]
    share = "what the calls leave" if pruning.share is None else f"{pruning.share:.4g}"
    names = ("ε", "δ") if pruning.everywhere else ("μ'", "α'")
    how = f"{names[0]} = {share}, {names[1]} = {pruning.amount:.4g}, {pruning.method}"
    rows.append(["pruning", how])
    rows += [[name, text] for name, text in made.estimate.items()]
    output.table(["", ""], rows, left=2)
    output.say()
    for line in made.lines():
        output.tell(line)


def build(
    task_file: TaskFile,
    /,
    *,
    out: Folder,
    target: Number | None = None,
    max_calls: Count | None = None,
    workers: Count | None = None,
    executor: Literal["local", "ray", "here"] | None = None,
    address: Annotated[str | None, Parameter(metavar="HOST:PORT")] = None,
    extend: Flag = False,
    json: Flag = False,
) -> None:
    """Call the oracle for policies and select the portfolio.

        palm build task.toml --out runs/first --workers 2

    The oracle is called at the weights of the task's grid, or adaptively where the
    certified gap is largest ([adaptive] in the task, or --target). Every answer is
    saved as it arrives: to resume an interrupted run, run the same command again.

    By default the portfolio is the smallest set of policies within 5 % of the best
    found at every weight. With method = "greedy" or "exact" in [prune] it is within
    the grid's μ at the weights asked, as in the paper.

    Parameters
    ----------
    task_file
        Task file (.toml).
    out
        Folder of the run; created if it does not exist.
    target
        Call adaptively, until the portfolio is certified to be within this share
        of the optimum at every weight; replaces the task's grid.
    max_calls
        With an adaptive grid, stop after this many calls, even above the target.
    workers
        Number of parallel oracle calls, each in a separate process.
    executor
        Where the calls run: worker processes on this machine (local), a Ray
        cluster (ray), or this process (here; a crash of the oracle ends the run).
    address
        Address of the Ray cluster. By default a cluster that runs on this machine,
        or a new local one.
    extend
        Resume a run that had another grid, target or pruning; its answers stay
        valid.
    json
        Print one JSON document instead.
    """
    from palm_core.run import engine
    from palm_core.run.artifacts import ARTIFACTS
    from palm_core.run.config import TaskOracle, load_task

    task = load_task(task_file, target_epsilon=target, max_calls=max_calls)
    given: dict[str, Any] = {"workers": workers, "executor": executor, "address": address}
    execution = replace(task.execution, **{k: v for k, v in given.items() if v is not None})
    source = TaskOracle(task, out.absolute() / ARTIFACTS)
    oracle = source()
    options = {"target": target, "max-calls": max_calls, **given}
    again = ["palm", "build", str(task_file), "--out", str(out)]
    again += [f"--{name}={value}" for name, value in options.items() if value is not None]
    watch = ProgressDisplay(task_file.stem)
    with resumable(watch, again + ["--extend"] * extend):
        portfolio = engine.build(
            oracle,
            task.settings,
            run_dir=out,
            extend=extend,
            execution=execution,
            task=task.resolved(),
            source=source,
            progress=watch,
        )
    if json:
        output.print_json(output.document(portfolio))
        return
    output.say(
        f"{task_file.stem} · {output.objectives(portfolio.objectives)} · oracle {task.oracle}"
    )
    output.show(portfolio)
    if portfolio.missing:
        output.say(f"To retry them, run the same command. Logs of the failures: {out}/logs")
    output.say()
    output.say(f"Saved in {out}. Other sizes, without oracle calls: palm prune {out} --curve")
    example = output.example_weights(portfolio.objectives)
    output.say(f"The policy for given weights: palm route {out} --weights {example}")
    if has_command("report"):
        output.say(f"An interactive page: palm report {out}")


def prune(
    run: RunFolder,
    /,
    *,
    epsilon: Number | None = None,
    delta: Number | None = None,
    mu: Number | None = None,
    alpha: Number | None = None,
    method: Literal["minimal", "greedy", "exact"] | None = None,
    solver: Literal["cbc", "highs"] | None = None,
    time_limit: Number | None = None,
    curve: Flag = False,
    most: Count | None = None,
    save: File | None = None,
    json: Flag = False,
) -> None:
    """Select another portfolio from a run, without oracle calls.

        palm prune runs/first --epsilon 0.02

        palm prune runs/first --curve

    Parameters
    ----------
    run
        Folder of a run made by palm build.
    epsilon
        ε in [0, 1]: the share of the best value that may be lost, at every weight.
    delta
        δ: the amount that may be lost in addition, at every weight, in units of reward.
    mu
        μ' in [0, 1]: the share that may be lost at the weights asked (greedy, exact).
    alpha
        α': the amount that may be lost in addition at the weights asked, in units of
        reward (greedy, exact).
    method
        minimal (fewest policies for every weight), or for the weights asked only:
        greedy (fast) or exact (fewest).
    solver
        Integer programming solver. By default cbc, or highs if cbc fails.
    time_limit
        Time limit of the search in seconds; with --curve, of the whole curve.
    curve
        Show the least gap of every size instead.
    most
        The largest size of --curve. By default 8.
    save
        Write the portfolio to this file; the run's own portfolio does not change.
    json
        Print one JSON document instead.
    """
    from palm_core import open_run
    from palm_core.errors import InputError

    tolerance = {"epsilon": epsilon, "delta": delta, "mu": mu, "alpha": alpha}
    how = {"method": method, "solver": solver}
    check_curve(curve, most, {**tolerance, **how, "save": save})
    check_portfolio_file(save)
    made = open_run(run)
    settings = made.settings.with_pruning(
        {**tolerance, **how, "time_limit": time_limit},
        name=lambda _, key: f"--{key.replace('_', '-')}",
    )
    if curve:
        output.show_curve(
            lambda: made.curve(most=MOST if most is None else most, time_limit=time_limit or 60.0),
            "policies",
            json=json,
        )
        return
    if method is None and all(value is None for value in tolerance.values()):
        raise InputError(
            "--epsilon, --delta, --mu, --alpha or --method is missing; --curve shows all sizes"
        )
    with output.waiting("searching for the smallest portfolio", settings.pruning.time_limit):
        portfolio = made.prune(settings)
    if save is not None:
        save = portfolio.save(save)
    if json:
        output.print_json(output.document(portfolio))
        return
    output.show(portfolio)
    if save is not None:
        output.note(f"Saved to {save}")


def status(
    run: RunFolder,
    /,
    *,
    verify: Flag = False,
    json: Flag = False,
) -> None:
    """Show the progress of a run, also while palm build works on it.

        palm status runs/first

    Parameters
    ----------
    run
        Folder of a run.
    verify
        Read every artifact and compare it with its recorded content hash.
    json
        Print one JSON document instead.
    """
    from palm_core.errors import WorkError
    from palm_core.run.run import damaged_artifacts, run_status

    found = run_status(run)
    damaged = damaged_artifacts(run) if verify else []
    if json:
        output.print_json(found.document() | ({"damaged": damaged} if verify else {}))
    else:
        _show(found)
    if damaged:
        more = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
        raise WorkError(f"{run}: {damaged[0]}{more}")
    if verify and not json:
        output.say("Every artifact matches its recorded hash.")


def _show(found: RunStatus) -> None:
    run = found.folder
    output.say(f"{run} · {output.objectives(found.objectives)} · oracle {found.oracle}")
    rows = [["state", _state(found)], ["calls", _calls(found)]]
    if found.seconds_left is not None:
        rows.append(["time left", f"about {output.duration(found.seconds_left)}"])
    if found.delta is not None:
        share = (
            "no finite ε" if found.epsilon is None else f"ε {percent_text(found.epsilon, up=True)}"
        )
        what = f"{share}  δ {number_text(found.delta, up=True)}, with all policies found"
        rows.append(["certified", what if found.state == "finished" else f"{what} so far"])
        if found.conditional_on is not None:
            rows.append(["conditional on", found.conditional_on])
    if found.portfolio is not None:
        rows.append(["portfolio", _portfolio(found.portfolio)])
    output.table(["", ""], rows, left=2)
    for item in found.missing[:5]:
        where = weights_text(item.weights.tolist(), found.objectives)
        output.tell(f"failed at {where}: {item.message} ({item.attempts} attempts)", indent=2)
    if len(found.missing) > 5:
        output.say(f"  and {len(found.missing) - 5} more")
    if found.state == "stopped":
        output.say(f"To resume: palm build TASK --out {run}")


def runs(
    folder: Annotated[Folder, Parameter(name="DIR", show_default=False)] = Path(),
    /,
    *,
    json: Flag = False,
) -> None:
    """List the runs in a folder and its subfolders.

        palm runs

        palm runs /data/experiments

    Parameters
    ----------
    folder
        The folder to search. By default the current one.
    json
        Print one JSON document instead.
    """
    from palm_core.errors import PalmError
    from palm_core.run.run import find_runs, run_status

    documents: list[dict[str, Any]] = []
    rows = []
    for place in find_runs(folder):
        try:
            found = run_status(place, certified=False)
        except PalmError as error:
            documents.append({"run": str(place), "state": "unreadable", "reason": str(error)})
            rows.append([str(place), "unreadable", "", "", str(error)])
            continue
        documents.append(found.document())
        rows.append([str(place), found.state, _calls(found), found.oracle, found.begun[:16]])
    if json:
        output.print_json({"runs": documents})
    elif rows:
        output.table(["run", "", "calls", "oracle", "started (UTC)"], rows, left=5)
    else:
        output.say(f"No runs in {folder}. To make one: palm build TASK --out {folder / 'first'}")


def _state(found: RunStatus) -> str:
    last = found.session
    if found.state == "running" and last is not None:
        return f"running (process {last.pid} on {last.host}, since {last.begun[:16]} UTC)"
    return found.state


def _portfolio(made: Portfolio) -> str:
    count = "1 policy" if len(made) == 1 else f"{len(made)} policies"
    proven = made.certificate
    return count if proven is None else f"{count}, {proven.statement}"


def _calls(found: RunStatus) -> str:
    total = "" if found.total is None else f" of {'' if found.exact else 'about '}{found.total}"
    parts = [f"{found.done}{total} done"]
    if found.running:
        parts.append(f"{found.running} running")
    if found.failed:
        parts.append(f"{found.failed} failed")
    return ", ".join(parts)
