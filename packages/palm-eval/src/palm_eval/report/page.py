"""The page of a report: data of its explorer, and the template filled with escaped values."""

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

from palm_core import serving_intervals, serving_shares
from palm_core.plugin import (
    drop_dominated,
    is_folder,
    number_text,
    one_line,
    percent_text,
    write_atomically,
)
from palm_eval.analysis.evaluation import figure_rows
from palm_eval.analysis.figures import is_selected
from palm_eval.figures import policy_styles, render
from palm_eval.polygons import serving_cells
from palm_eval.report.sentences import diversity, headline, lead, promise, proof
from palm_eval.rewards.conversations import messages

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from palm_core import PolicySet, Portfolio
    from palm_eval.report.contents import ReportContents
    from palm_eval.responses import RunResponses

    Array = NDArray[np.float64]

# Sampled weights in the search for weights that a policy serves, for d ≥ 4.
_TRIED = 20_000
_PROMPT_LABEL = 90


def explorer_data(contents: ReportContents) -> dict[str, Any]:
    """The data of the page's script; see ``report.js``."""
    portfolio = contents.portfolio
    return {
        "objectives": list(portfolio.objectives),
        "policies": [
            {
                key: policy[key]
                for key in ("id", "number", "colour", "ink", "values", "cell", "centre", "cells")
            }
            for policy in policy_rows(portfolio)
        ],
        "found": None if contents.candidates is None else _found(contents.candidates),
        "candidates": portfolio.candidates,
        "selected": is_selected(portfolio),
        "prompts": prompt_rows(contents),
    }


def policy_rows(portfolio: Portfolio) -> list[dict[str, Any]]:
    """A row for each policy: its data on the page, and the weights it serves.

    ``cell`` is an interval of w_1 for d = 2, a polygon of weights for d = 3; ``centre`` the
    weights at its centre, and ``start`` weights that it serves, for any d; ``None`` if there
    are none (among the sampled weights, for d ≥ 4).
    """
    policies = portfolio.policy_set
    styles = policy_styles(policies)
    shares = serving_shares(policies)
    cells, starts = _cells(policies.vertex_values)
    low, high = _limits(portfolio)
    rows = []
    for index, policy in enumerate(portfolio.policies):
        style, cell = styles[policy.id], cells.get(index)
        errors = policy.reward_errors
        rows.append(
            {
                "id": policy.id,
                "number": style.number,
                "colour": style.colour,
                "ink": _ink(style.colour),
                "values": policies.vertex_values[index].tolist(),
                "cell": None if cell is None else cell.tolist(),
                "centre": starts[index].tolist() if cell is not None and cell.ndim > 1 else None,
                "start": starts[index].tolist() if index in starts else None,
                "share": percent_text(float(shares[index]), 1),
                "regularizer": number_text(float(policy.regularizer)),
                "cells": [
                    {
                        "value": number_text(float(value)),
                        "error": "" if errors is None else number_text(float(errors[i])),
                        "width": round(100 * float((value - low[i]) / (high[i] - low[i])), 1),
                    }
                    for i, value in enumerate(policy.rewards)
                ],
            }
        )
    return rows


def _limits(portfolio: Portfolio) -> tuple[Array, Array]:
    """The limits of the table's meters, in raw units."""
    rewards = np.array([policy.rewards for policy in portfolio.policies])
    limits = portfolio.normalization
    if limits.method == "minmax":
        return np.array(limits.lower), np.array(limits.upper)
    low, high = np.minimum(rewards.min(axis=0), 0.0), rewards.max(axis=0)
    return low, np.where(high > low, high, low + 1.0)


def _cells(values: Array) -> tuple[dict[int, Array], dict[int, Array]]:
    """The cell and inner weights of each policy that serves any weights."""
    d = values.shape[1]
    if d == 2:
        ends = {i: row for i, row in enumerate(serving_intervals(values)) if row[1] > row[0]}
        middles = {i: row.mean() for i, row in ends.items()}
        return ends, {i: np.array([middle, 1 - middle]) for i, middle in middles.items()}
    if d == 3:
        cells = serving_cells(values)
        return cells, {i: cell.mean(axis=0) for i, cell in cells.items()}
    weights = np.random.default_rng(0).dirichlet(np.ones(d), size=_TRIED)
    reached = weights @ values.T
    best, lead = (
        reached.argmax(axis=1),
        np.partition(reached, -2, axis=1)[:, -2:] if len(values) > 1 else None,
    )
    starts = {}
    for index in np.unique(best).tolist():
        mine = np.flatnonzero(best == index)
        margin = np.zeros(len(mine)) if lead is None else lead[mine, 1] - lead[mine, 0]
        starts[index] = weights[mine[int(np.argmax(margin))]]
    return {}, starts


def _found(candidates: PolicySet) -> list[list[float]]:
    """Vertex values of all policies that are the best at some weights; for d > 3, may be."""
    values = candidates.vertex_values
    values = values[drop_dominated(values)]
    if values.shape[1] <= 3:
        values = values[serving_shares(values) > 0]
    found: list[list[float]] = values.tolist()
    return found


def _ink(colour: str) -> str:
    """Black or white, by higher contrast with ``colour`` (WCAG 2)."""
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ [0.2126, 0.7152, 0.0722])
    return "#000000" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "#ffffff"


def prompt_rows(contents: ReportContents) -> list[dict[str, Any]]:
    """Evenly chosen prompts answered by all policies, with answers and rewards."""
    responses = contents.responses
    if responses is None or not responses.prompts or not contents.prompts:
        return []
    places = np.unique(
        np.linspace(0, len(responses.prompts) - 1, min(contents.prompts, len(responses.prompts)))
        .round()
        .astype(int)
    ).tolist()
    rewards = _prompt_rewards(contents.portfolio, responses)
    names = [policy.id for policy in contents.portfolio.policies]
    rows = []
    for place in places:
        turns = [
            {"role": one["role"], "text": one["content"]}
            for one in messages(responses.prompts[place], role="user", name="prompt")
        ]
        answers = [
            [_text(one) for one in responses.answers[name][place]]
            if name in responses.answers
            else None
            for name in names
        ]
        kept = [answer for answer in answers if answer is not None]
        rows.append(
            {
                "label": one_line(turns[-1]["text"] if turns else "", _PROMPT_LABEL),
                "turns": turns,
                "answers": answers,
                "rewards": [
                    None if rewards[name] is None else rewards[name][place].tolist()
                    for name in names
                ],
                "differ": any(answer != kept[0] for answer in kept),
            }
        )
    return rows


def _prompt_rewards(portfolio: Portfolio, responses: RunResponses) -> dict[str, Any]:
    """Rewards per prompt by policy, if they match the prompts shown, in order."""
    found: dict[str, Any] = {}
    for policy in portfolio.policies:
        own = responses.found.get(policy.id)
        fits = (
            own is not None
            and policy.prompt_rewards is not None
            and own.prompts == responses.prompts
            and len(policy.prompt_rewards) == len(own.prompts)
        )
        found[policy.id] = policy.prompt_rewards if fits else None
    return found


def _text(completion: object) -> str:
    """The answer as text; of a conversation each turn with its role."""
    turns = messages(completion, role="assistant", name="completion")
    if len(turns) == 1:
        return turns[0]["content"]
    return "\n\n".join(f"[{one['role']}] {one['content']}" for one in turns)


_LABEL = 28


def write_report(contents: ReportContents, out: str | Path) -> Path:
    """Write the report to ``out`` atomically.

    Raises:
        WorkError: the file cannot be written.
    """
    file = Path(out)
    write_atomically(file, render_report(contents).encode())
    return file


def report_file(path: str | Path) -> Path:
    """The default path of a report: in the run's folder, or beside the portfolio."""
    path = Path(path)
    return path / "report.html" if is_folder(path) else path.with_suffix(".html")


def render_report(contents: ReportContents) -> str:
    """The report as one self-contained HTML document.

    Every value is escaped, by Jinja in the page and as JSON for the script, which writes
    text only; the content security policy forbids other scripts and all requests.
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
    """The sections in the page's table of contents."""
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
        return ""  # a selection from a table has no answers
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
    text = "The same prompt to every policy; first the one that serves the weight vector above."
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
    """The task as TOML for palm build, without unset entries."""

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: kept(one) for key, one in value.items() if one is not None}
        return [kept(one) for one in value] if isinstance(value, list) else value

    plain = kept(task)
    # Recorded by the run, not an option of the oracle.
    plain.get("oracle", {}).pop("fingerprint", None)
    return tomli_w.dumps(plain).strip()


def _plain(name: str) -> bool:
    """Whether a name needs no quotes in --weights."""
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
