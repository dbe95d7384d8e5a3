"""Model cards in Markdown: a policy, its portfolio, its training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from palm_core.plugin import number_text, package_versions, percent_text
from palm_eval.plugin import headline, lead, proof
from palm_trl.export.models import ADAPTER, oracle_options
from palm_trl.export.routing import serving

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palm_core import Portfolio
    from palm_trl.export.models import Gathered, Model


def described(portfolio: Portfolio) -> str:
    """The portfolio's quality, and the meaning of its weights."""
    text = " ".join([f"**{plain(headline(portfolio))}.**", *map(plain, lead(portfolio))])
    if portfolio.normalization.method == "none":
        return text
    return (
        f"{text} Weights are of rewards (less the regulariser) scaled to 0–1 over "
        f"{plain(portfolio.normalization.over) or 'the policies of the run'}."
    )


def model_table(gathered: Gathered) -> str:
    """A table of the models: training weights, served weights, rewards."""
    names = gathered.portfolio.objectives
    rows = [
        [
            f"`{model.name}`",
            ", ".join(f"{weight:.2f}" for weight in model.policy.weights.tolist()),
            words,
            *(number_text(reward) for reward in model.policy.rewards.tolist()),
        ]
        for model, words in zip(gathered.models, serves_words(gathered.portfolio), strict=True)
    ]
    trained = f"trained for ({', '.join(names)})"
    return markdown_table(["model", trained, "serves", *names], rows)


def serves_words(portfolio: Portfolio) -> list[str]:
    """The weights that each policy serves, in words."""
    intervals, shares = serving(portfolio)
    found = []
    for interval, share in zip(intervals, shares, strict=True):
        if interval is not None:
            found.append(f"{interval.objective} from {interval.least:.3f} to {interval.most:.3f}")
        elif share > 0:
            found.append(f"{percent_text(share, 1)} of all weights")
        else:  # shares of four and more objectives are from samples
            sampled = len(portfolio.objectives) > 3
            found.append("hardly any weights" if sampled else "no range of weights")
    return found


def markdown_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with escaped cells."""
    lines = [list(headers), ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def plain(text: str) -> str:
    """Escape untrusted text for Markdown and HTML."""
    escaped = text.replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;")
    for mark in "`*_[]":
        escaped = escaped.replace(mark, f"\\{mark}")
    return " ".join(escaped.split())


def fenced(text: str) -> str:
    """Format text as inline code, with backticks escaped."""
    ticks = "`"
    while ticks in text:
        ticks += "`"
    return f"{ticks} {text} {ticks}" if "`" in text else f"`{text}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


#: Descriptions of the entries of a policy's info about its measurement.
_MEASURED = {
    "kl": "KL(π ‖ π_ref) of whole responses in nats, over the whole vocabulary at each step",
    "kl_error": "standard error of that",
    "kl_k1": "the same KL, estimated from the tokens drawn alone",
    "tokens": "mean tokens of a response",
    "cut_off": "share of responses cut off",
    "accuracy": "share of responses that are correct",
    "regularizer": "the regulariser",
}
#: Descriptions of entries about training; all others are shown by name.
_TRAINED = {
    "base": "trained from, as the task names it",
    "start": "training started from the artifact",
}


def model_card(gathered: Gathered, model: Model) -> str:
    """``README.md`` of a model folder, with front matter for the Hugging Face hub."""
    from huggingface_hub import ModelCard

    card = ModelCard(f"---\n{_front(gathered, model)}\n---\n\n{_body(gathered, model)}")
    return str(card.content)


def _front(gathered: Gathered, model: Model) -> str:
    from huggingface_hub import ModelCardData

    base_fields: dict[str, Any] = {}
    base = gathered.base
    if base is not None and base.on_hub:
        base_fields["base_model"] = base.name
    elif base is None and isinstance(source := model.policy.info.get("base"), str):
        base_fields["base_model"] = source
    adapter = model.files.kind == ADAPTER
    if adapter and "base_model" in base_fields:
        base_fields["base_model_relation"] = "adapter"
    data = ModelCardData(
        library_name="peft" if adapter else "transformers",
        pipeline_tag="text-generation",
        tags=_tags(model),
        **base_fields,
    )
    return str(data.to_yaml()).rstrip()


def _tags(model: Model) -> list[str]:
    said = model.policy.info
    found = ["palm", "multi-objective", said.get("oracle"), said.get("algorithm")]
    found += ["lora"] if model.files.kind == ADAPTER else []
    return list(dict.fromkeys(tag for tag in found if isinstance(tag, str)))


def _body(gathered: Gathered, model: Model) -> str:
    portfolio = gathered.portfolio
    index = gathered.models.index(model)
    parts = [
        f"# {model.name}",
        f"One of the {len(gathered.models)} policies of a portfolio that serves all weights of "
        f"{plain(', '.join(portfolio.objectives[:-1]))} and {plain(portfolio.objectives[-1])} "
        f"(PALM, Portfolio of Aligned LLMs). It serves: {serves_words(portfolio)[index]}.",
        _base_words(gathered),
        "## What it scores",
        _scores(gathered, model),
        _measured(model),
        "## The portfolio",
        described(portfolio),
        *(f"**{plain(title)}.** {plain(text)}" for title, text in proof(portfolio, None)),
        "## How it was made",
        _training(gathered, model),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _base_words(gathered: Gathered) -> str:
    base = gathered.base
    if base is None:
        return ""
    if base.on_hub:
        revision = f" at revision {fenced(base.revision)}" if base.revision else ""
        return f"An adapter of {fenced(base.name)}{revision}."
    return (
        "An adapter of a model in a folder, which `adapter_config.json` names: before publishing, "
        "put the model's name on the hub there, and as `base_model` above."
    )


def _scores(gathered: Gathered, model: Model) -> str:
    policy, portfolio = model.policy, gathered.portfolio
    errors = policy.reward_errors
    rows = [
        [
            plain(name),
            f"{policy.weights[i]:.4f}",
            number_text(float(policy.rewards[i])),
            "unknown" if errors is None else number_text(float(errors[i])),
        ]
        for i, name in enumerate(portfolio.objectives)
    ]
    headers = ["objective", "weight trained for", "reward", "standard error"]
    return (
        markdown_table(headers, rows)
        + f"\n\nRegulariser f: {number_text(float(policy.regularizer))}, in units of reward. "
        "A policy "
        "is worth w·r − f at weights w."
    )


def _measured(model: Model) -> str:
    info = model.policy.info
    rows = [
        [words, _value(info[name])]
        for name, words in _MEASURED.items()
        if info.get(name) is not None
    ]
    return markdown_table(["measured", ""], rows) if rows else ""


def _training(gathered: Gathered, model: Model) -> str:
    rows = [
        [_TRAINED.get(name, plain(name)), _value(value)]
        for name, value in model.policy.info.items()
        if name not in _MEASURED and value is not None and not isinstance(value, dict)
    ]
    run = (gathered.portfolio.task or {}).get("run")
    if isinstance(run, dict) and isinstance(run.get("seed"), int):
        rows.append(["seed of the run", str(run["seed"])])
    tables = {name: value for name, value in model.policy.info.items() if isinstance(value, dict)}
    listed = ", ".join(f"{name} {found}" for name, found in sorted(gathered.versions.items()))
    parts = [
        markdown_table(["trained", ""], rows) if rows else "",
        "What the task asked of its oracle; all else is the default of the versions below:",
        _block(_toml({"oracle": oracle_options(gathered.portfolio)})),
        *(["With all options as they were used:", _block(_toml(tables))] if tables else []),
        f"Answered with {plain(listed)}; exported with palm-core "
        f"{package_versions()['palm-core']}.",
    ]
    return "\n\n".join(part for part in parts if part)


def _value(value: Any) -> str:
    if isinstance(value, float):
        return number_text(value)
    return plain(str(value))


def _toml(tables: dict[str, Any]) -> str:
    import tomli_w

    return tomli_w.dumps(_without_none(tables)).rstrip()


def _without_none(value: Any) -> Any:
    """Drop ``None`` values, which TOML lacks."""
    if isinstance(value, dict):
        return {name: _without_none(one) for name, one in value.items() if one is not None}
    if isinstance(value, list):
        return [_without_none(one) for one in value if one is not None]
    return value


def _block(text: str) -> str:
    """A fenced block, with a fence longer than any in the text."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}toml\n{text}\n{fence}"
