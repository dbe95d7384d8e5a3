"""Commands that look at runs: ``status`` and ``runs``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from palm_core.cli import output, showing
from palm_core.cli.parameters import Flag, Folder, RunFolder

if TYPE_CHECKING:
    from palm_core.portfolio import Portfolio
    from palm_core.status import RunStatus


def status(
    run: RunFolder,
    /,
    *,
    verify: Flag = False,
    json: Flag = False,
) -> None:
    """Say how far a run is, also while it is being built.

        palm status runs/first

    Parameters
    ----------
    run
        The folder of a run that palm build made or is making.
    verify
        Read every artifact again and compare it with the content hash that was recorded.
    json
        Print one JSON document instead.
    """
    from palm_core.errors import WorkError
    from palm_core.status import damaged_artifacts, run_status

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
        output.say("Every artifact is as it was recorded.")


def _show(found: RunStatus) -> None:
    run = found.folder
    output.say(f"{run} · {showing.objectives(found.objectives)} · oracle {found.oracle}")
    rows = [["state", _state(found)], ["calls", _calls(found)]]
    if found.seconds_left is not None:
        rows.append(["time left", f"about {output.duration(found.seconds_left)}"])
    if found.delta is not None:
        share = (
            "no finite ε"
            if found.epsilon is None
            else f"ε {output.percent(found.epsilon, up=True)}"
        )
        what = f"{share}  δ {output.number(found.delta, up=True)}, with all policies found"
        rows.append(["certified", what if found.state == "finished" else f"{what} so far"])
        if found.conditional_on is not None:
            rows.append(["conditional on", found.conditional_on])
    if found.portfolio is not None:
        rows.append(["portfolio", _portfolio(found.portfolio)])
    output.table(["", ""], rows, left=2)
    for item in found.missing[:5]:
        where = output.weights_text(item.weights.tolist(), found.objectives)
        output.tell(f"failed at {where}: {item.message} ({item.attempts} attempts)", indent=2)
    if len(found.missing) > 5:
        output.say(f"  and {len(found.missing) - 5} more")
    if found.state == "stopped":
        output.say(f"To go on: palm build TASK --out {run}")


def runs(
    folder: Annotated[Folder, Parameter(name="DIR", show_default=False)] = Path(),
    /,
    *,
    json: Flag = False,
) -> None:
    """List the runs in a folder and below it.

        palm runs
        palm runs /data/experiments

    Parameters
    ----------
    folder
        Where to look; by default here.
    json
        Print one JSON document instead.
    """
    from palm_core.errors import PalmError
    from palm_core.status import find_runs, run_status

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
        output.table(["run", "", "calls", "oracle", "begun (UTC)"], rows, left=5)
    else:
        output.say(f"No runs in {folder}. palm build TASK --out {folder / 'first'} makes one.")


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
