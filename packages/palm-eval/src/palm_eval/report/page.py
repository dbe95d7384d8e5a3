"""The page itself: the template filled with escaped values, alone in one file."""

from __future__ import annotations

import base64
import hashlib
import shlex
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tomli_w
from jinja2 import Environment, PackageLoader, StrictUndefined

from palm_core.files import is_folder, write_atomically
from palm_core.text import one_line
from palm_eval.figures import render
from palm_eval.report.explorer import explorer_data, policy_rows
from palm_eval.report.words import diversity, headline, lead, promise, proof
from palm_eval.selected_models import is_selected
from palm_eval.showing import figure_rows

if TYPE_CHECKING:
    from palm_core import Portfolio
    from palm_eval.report.contents import ReportContents

_LABEL = 28


def write_report(contents: ReportContents, out: str | Path) -> Path:
    """Write the report to ``out``, whole or not at all.

    Raises:
        WorkError: the file cannot be written.
    """
    file = Path(out)
    write_atomically(file, render_report(contents).encode())
    return file


def report_file(path: str | Path) -> Path:
    """Where a report goes if nobody says: into the run's folder, or beside the portfolio."""
    path = Path(path)
    return path / "report.html" if is_folder(path) else path.with_suffix(".html")


def render_report(contents: ReportContents) -> str:
    """The report as one HTML document that asks for nothing else.

    Every value is escaped, by Jinja in the page and as JSON for the script, which writes
    text only; the page's own policy lets no other script run and nothing be fetched.
    """
    portfolio = contents.portfolio
    script = _resource("report.js")
    d = len(portfolio.objectives)
    rows = policy_rows(portfolio)
    data = explorer_data(contents)
    run = is_folder(contents.path)
    route = f"palm route {shlex.quote(str(contents.path))}"
    routed = all(_plain(name) for name in portfolio.objectives)
    data["route"] = route
    page: dict[str, Any] = {
        "name": one_line(contents.path.resolve().name if run else contents.path.name, 80),
        "headline": headline(portfolio),
        "lead": lead(portfolio),
        "promise": promise(portfolio),
        "proof": proof(portfolio, contents.evaluation),
        "space": _space(portfolio),
        "d": d,
        "objectives": portfolio.objectives,
        "equal": [1 / d] * d,
        "vertices": list(zip(portfolio.objectives, np.eye(d).tolist(), strict=True)),
        "policies": rows,
        "selected": is_selected(portfolio),
        "with_errors": any(policy.reward_errors is not None for policy in portfolio.policies),
        "regularized": any(policy.regularizer for policy in portfolio.policies),
        "route": routed,
        "n_prompts": len(data["prompts"]),
        "answers_note": _answers_note(contents, len(data["prompts"])),
        "diversity": diversity(contents.diversity),
        "comparison": _comparison(contents),
        "figures": [
            {
                "title": one.title,
                "caption": one.caption,
                "description": one.description,
                "source": "data:image/svg+xml;base64,"
                + base64.b64encode(render(one.figure)).decode(),
            }
            for one in contents.figures.values()
        ],
        "made": _made(contents),
        "task": _toml(dict(portfolio.task)) if portfolio.task else "",
        "versions": ", ".join(f"{name} {value}" for name, value in portfolio.made_with.items())
        or "not recorded",
        "missing": contents.missing,
        "data": data,
        "style": _resource("report.css"),
        "script": script,
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    page["sections"] = _sections(page)
    return _environment().get_template("report.html.jinja").render(page)


def _sections(page: dict[str, Any]) -> list[tuple[str, str]]:
    """What the page's own list of contents links to."""
    sections = [
        ("explore", "Who serves which preference", True),
        ("answers", "What they answer", page["answers_note"]),
        ("proof", "How we know", True),
        ("comparison", "Beside other ways to choose", page["comparison"]),
        ("figures", "Figures", page["figures"]),
        ("made", "How it was made", True),
        ("missing", "What is missing", page["missing"]),
    ]
    return [(name, title) for name, title, there in sections if there]


def _space(portfolio: Portfolio) -> str:
    if portfolio.normalization.method == "none":
        return ""
    over = portfolio.normalization.over or "all policies"
    return f"Weights are of rewards scaled to 0–1 ({portfolio.normalization.method} over {over})."


def _answers_note(contents: ReportContents, shown: int) -> str:
    responses = contents.responses
    if responses is None and is_selected(contents.portfolio):
        return ""  # a table of scores has no answers
    if responses is None or not responses.found:
        reasons = [] if responses is None else list(dict.fromkeys(responses.missing.values()))
        why = f" Of the policies here: {reasons[0]}." if reasons else ""
        return (
            "No answers are kept with this portfolio. An oracle that writes them "
            f"(palm_eval.write_responses) has them shown here, side by side.{why}"
        )
    if not responses.prompts:
        return "The policies did not answer the same prompts, so nothing stands side by side."
    if not shown:
        return f"Answers to {len(responses.prompts)} prompts are kept; none were to be shown."
    text = "The same prompt to every policy; first the one that serves the weighting above."
    if not responses.same_prompts:
        text += (
            f" {len(responses.prompts)} of {responses.n_prompts} prompts were answered by all of "
            "them."
        )
    if shown < len(responses.prompts):
        text += f" Shown are {shown} of {len(responses.prompts)}, evenly chosen (--prompts)."
    return text


def _comparison(contents: ReportContents) -> dict[str, Any] | None:
    found = contents.evaluation
    if found is None:
        return None
    headers, rows = figure_rows(found)
    return {
        "headers": headers,
        "rows": rows,
        "note": (
            f"Measured against {found.candidates} policies ({found.normalization_text}), the "
            f"baselines' included. ε and δ are exact; “of {found.samples}” is over as many "
            "sampled weights, as the paper measures, and never more. Perplexity tells how evenly "
            "the policies are used, utility what a user gets on average."
        ),
    }


def _made(contents: ReportContents) -> list[str]:
    portfolio = contents.portfolio
    task = portfolio.task or {}
    lines = []
    if portfolio.oracle_calls:
        oracle = task.get("oracle", {}).get("name", "")
        named = f" of the oracle “{oracle}”" if oracle else ""
        seed = task.get("run", {}).get("seed")
        lines.append(
            f"{portfolio.oracle_calls} calls{named} found {portfolio.candidates} different policies"
            + (f", with seed {seed}." if seed is not None else ".")
        )
    elif portfolio.candidates:
        lines.append(f"Chosen from {portfolio.candidates} policies that were there.")
    if portfolio.task_hash:
        lines.append(f"The task’s fingerprint is {portfolio.task_hash}.")
    return lines


def _toml(task: dict[str, Any]) -> str:
    """The task as a file that palm build takes; what is not set is left out."""

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: kept(one) for key, one in value.items() if one is not None}
        return [kept(one) for one in value] if isinstance(value, list) else value

    plain = kept(task)
    # The run's record of the oracle, not an option of it.
    plain.get("oracle", {}).pop("fingerprint", None)
    return tomli_w.dumps(plain).strip()


def _plain(name: str) -> bool:
    """Whether a name can stand in --weights as it is."""
    return bool(name) and all(char.isalnum() or char in "_-." for char in name)


def _resource(name: str) -> str:
    return files("palm_eval.report").joinpath(name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("palm_eval.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["clipped"] = lambda name: one_line(name, _LABEL)
    return found
