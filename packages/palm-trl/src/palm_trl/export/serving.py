"""An export for vLLM: start script, adapters or models, chat and sampling settings.

Adapters share one server, which holds the base model once. Full models take a server each, on
consecutive ports.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palm_core import InputError
from palm_core.plugin import one_line
from palm_eval.plugin import FORMATS
from palm_trl.export.cards import described, fenced, model_table
from palm_trl.export.models import BASE, RANKS, oracle_options, unserved
from palm_trl.options import PRESET_OPTIONS

if TYPE_CHECKING:
    from palm_core import Portfolio
    from palm_trl.export.models import Gathered, Model

_READ = ("format", "system", "temperature", "new_tokens", "dtype")


@dataclass(frozen=True, kw_only=True)
class Asking:
    """Prompt format and sampling settings of the measurement; ``None`` is unknown.

    Args:
        form: "chat", or a template with {prompt}.
        system: the system prompt.
        temperature: 0 is greedy.
        new_tokens: maximum tokens of a response.
        dtype: the dtype of the models when measured.
    """

    form: str | None
    system: str | None
    temperature: float | None
    new_tokens: int | None
    dtype: str | None

    @property
    def chat(self) -> bool:
        """Whether prompts use the chat template."""
        return self.form == "chat"

    def defaults(self) -> str | None:
        """Sampling defaults for vLLM, as JSON."""
        return None if self.temperature is None else json.dumps({"temperature": self.temperature})

    def body(self, prompt: str) -> dict[str, Any]:
        """The body of a request to the server, without the model."""
        most = {} if self.new_tokens is None else {"max_tokens": self.new_tokens}
        if self.chat:
            said = [] if self.system is None else [{"role": "system", "content": self.system}]
            return {"messages": [*said, {"role": "user", "content": prompt}], **most}
        return {"prompt": (self.form or "{prompt}").replace("{prompt}", prompt), **most}


def asking_of(portfolio: Portfolio) -> Asking:
    """Read the settings from the policies' info, else from the task.

    For PALM's own oracles the defaults are known too.
    """
    options, info = oracle_options(portfolio), portfolio.policies[0].info
    if options.get("name") == info.get("oracle") == "grpo":
        from palm_trl.options import GrpoSettings

        preset = PRESET_OPTIONS.get(str(options.get("preset", "objective")), {})
        options = {**{one.name: one.default for one in fields(GrpoSettings)}, **preset, **options}
    recorded = {name: info.get(name, options.get(name)) for name in _READ}
    form, temperature = recorded["format"], recorded["temperature"]
    return Asking(
        form=FORMATS.get(form, form) if isinstance(form, str) else None,
        system=_if(recorded["system"], str),
        temperature=None if _if(temperature, (int, float)) is None else float(temperature),
        new_tokens=_if(recorded["new_tokens"], int),
        dtype=None if recorded["dtype"] == "auto" else _if(recorded["dtype"], str),
    )


def _if(value: Any, kind: Any) -> Any:
    """``value`` if it has the expected type; the file is untrusted."""
    return value if isinstance(value, kind) and not isinstance(value, bool) else None


ADAPTERS, MODELS = "adapters", "models"
PORT = 8000
#: The share of a device's memory for all servers; also vLLM's default.
_MEMORY = 0.9


def served_paths(gathered: Gathered) -> list[str]:
    """The path of each model in the export's folder."""
    place = MODELS if gathered.base is None else ADAPTERS
    return [f"{place}/{model.name}" for model in gathered.models]


def served_ports(gathered: Gathered) -> list[int]:
    """The port of each model."""
    step = 1 if gathered.base is None else 0
    return [PORT + step * number for number in range(len(gathered.models))]


def max_lora_rank(ranks: list[int]) -> int:
    """The least sufficient rank that vLLM accepts.

    Example:
        >>> max_lora_rank([4, 16]), max_lora_rank([17])
        (16, 32)
    """
    return next(rank for rank in RANKS if rank >= max(ranks))


def check_served(gathered: Gathered) -> None:
    """Refuse adapters that vLLM would not serve as measured.

    Raises:
        InputError: names the adapter and its option that vLLM does not support.
    """
    if gathered.base is None:
        return
    for model in gathered.models:
        reason = unserved(model.files)
        if reason is not None:
            shown = one_line(repr(model.policy.id), 80)
            raise InputError(f"policy {shown}: its adapter has {reason}; requires --to hf")


def serve_script(gathered: Gathered, asking: Asking) -> str:
    """``serve.sh``: starts vLLM with the settings of the measurement."""
    lines = [
        "#!/usr/bin/env bash",
        "# Serves a PALM portfolio with vLLM, see README.md. Arguments go to vllm serve;",
    ]
    if gathered.base is not None:
        lines += [
            "# PORT, BASE (where the base model is elsewhere) and VLLM may be set.",
            "set -euo pipefail",
            'cd "$(dirname "${BASH_SOURCE[0]}")"',
            f"base={shlex.quote(gathered.base.name)}",
            'exec ${VLLM:-vllm serve} "${BASE:-$base}" \\',
        ]
        options = _of_adapters(gathered, asking)
        return "\n".join([*lines, *(f"  {option} \\" for option in options), '  "$@"', ""])
    size = len(gathered.models)
    share = int(100 * _MEMORY / size) / 100
    lines += [
        "# PORT (of the first), SHARE (of a device's memory for each) and VLLM may be set.",
        "set -euo pipefail",
        'cd "$(dirname "${BASH_SOURCE[0]}")"',
        "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT",
        "trap 'exit 143' INT TERM",
    ]
    for number, model in enumerate(gathered.models):
        options = [
            f"--served-model-name {shlex.quote(model.name)}",
            *([f'--gpu-memory-utilization "${{SHARE:-{share:g}}}"'] if size > 1 else []),
            *_common(asking, asking.dtype or _dtype(model.files.config)),
            f'--port "$((${{PORT:-{PORT}}} + {number}))"',
        ]
        lines.append(f"${{VLLM:-vllm serve}} {shlex.quote(f'{MODELS}/{model.name}')} \\")
        lines += [*(f"  {option} \\" for option in options), '  "$@" &']
    # if one server ends, the others are stopped too
    return "\n".join([*lines, "wait -n", ""])


def _of_adapters(gathered: Gathered, asking: Asking) -> list[str]:
    assert gathered.base is not None
    models, base = gathered.models, gathered.base
    listed = [
        f"{model.name}={path}" for model, path in zip(models, served_paths(gathered), strict=True)
    ]
    return [
        *([f"--revision {shlex.quote(base.revision)}"] if base.revision else []),
        *([f"--tokenizer {served_paths(gathered)[0]}"] if _other_tokenizer(gathered) else []),
        f"--served-model-name {BASE}",
        "--enable-lora",
        f"--max-loras {len(models)}",
        f"--max-lora-rank {max_lora_rank([model.files.rank for model in models])}",
        "--lora-modules \\\n" + " \\\n".join(f"    {shlex.quote(one)}" for one in listed),
        *_common(asking, asking.dtype or _dtype(base.config)),
        f'--port "${{PORT:-{PORT}}}"',
    ]


def _other_tokenizer(gathered: Gathered) -> bool:
    """Whether the base model's tokenizer, which vLLM uses, differs from the one measured with."""
    assert gathered.base is not None
    own = [file for file in gathered.models[0].files.tokenizer if file.name == "tokenizer.json"]
    if not own:
        return False
    if oracle_options(gathered.portfolio).get("tokenizer") is not None:
        return True
    folder = Path(gathered.base.name)
    if not folder.is_dir():
        return False
    bases = folder / own[0].name
    return not bases.is_file() or bases.read_bytes() != own[0].read_bytes()


def _common(asking: Asking, dtype: str | None) -> list[str]:
    """Options that make vLLM sample and compute as in the measurement."""
    defaults = asking.defaults()
    return [
        "--generation-config vllm",
        *([] if defaults is None else [f"--override-generation-config {shlex.quote(defaults)}"]),
        *([] if dtype is None else [f"--dtype {shlex.quote(dtype)}"]),
    ]


def _dtype(config: object) -> str | None:
    """Keep float32 models in float32, which vLLM would convert to half precision."""
    assert isinstance(config, dict)
    kept = config.get("dtype", config.get("torch_dtype"))
    return "float32" if kept == "float32" else None


def serve_readme(gathered: Gathered, asking: Asking) -> str:
    """``README.md``: contents of the folder and example requests."""
    portfolio, models = gathered.portfolio, gathered.models
    one_server = gathered.base is not None
    parts = [
        f"# A portfolio of {len(models)} models, for vLLM",
        described(portfolio),
        model_table(gathered),
        "## Start",
        "```sh\nbash serve.sh\n```",
        (
            f"One server holds the base model once and {len(models)} adapters, each asked for by "
            f"its name (`{BASE}` is the model without any). "
            if one_server
            else "Each model has a server of its own, on ports that follow one another. "
        )
        + "`PORT=…` moves them, further arguments go to `vllm serve`. "
        + _sampled(asking)
        + _put(asking),
        "## Ask",
        "`route.py` needs nothing but Python; `routing.json` has its rule, for other languages.",
        "```sh\n" + _curl(gathered, asking) + "\n```",
        "```python\n" + _openai(gathered, asking) + "\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _sampled(asking: Asking) -> str:
    if asking.temperature is None:
        return (
            "The run does not say at which temperature its models were measured; where a request "
            "does not either, it is 1."
        )
    return (
        "Where a request says nothing else, responses are drawn as they were measured, at "
        f"temperature {asking.temperature:g}, whatever `generation_config.json` says."
    )


def _put(asking: Asking) -> str:
    if asking.form is None:
        return " How prompts were put to the models is not known to this run."
    if asking.chat:
        return " Prompts were put through the tokenizer's chat template."
    return f" Prompts were put as {fenced(json.dumps(asking.form, ensure_ascii=False))}."


def _example(gathered: Gathered) -> tuple[str, dict[str, float]]:
    """Example weights: those that the first model was trained for."""
    model: Model = gathered.models[0]
    rounded = [round(float(weight), 2) for weight in model.policy.weights]
    rounded[rounded.index(max(rounded))] += 1 - sum(rounded)
    found = {
        name: round(weight, 2)
        for name, weight in zip(gathered.portfolio.objectives, rounded, strict=True)
    }
    return ",".join(f"{name}={weight:g}" for name, weight in found.items()), found


def _curl(gathered: Gathered, asking: Asking) -> str:
    weights = shlex.quote(_example(gathered)[0])
    call = "chat/completions" if asking.chat else "completions"
    said = json.dumps(asking.body("…"), ensure_ascii=False)[1:].replace("'", "'\\''")
    port = str(PORT) if gathered.base is not None else f"$(python route.py --port {weights})"
    return "\n".join(
        [
            f"model=$(python route.py {weights})",
            f"curl -s http://localhost:{port}/v1/{call} -H 'Content-Type: application/json' \\",
            f'  -d \'{{"model": "\'"$model"\'", {said}\'',
        ]
    )


def _openai(gathered: Gathered, asking: Asking) -> str:
    body = asking.body("…")
    what = "chat.completions" if asking.chat else "completions"
    answer = "choices[0].message.content" if asking.chat else "choices[0].text"
    arguments = "".join(f", {name}={value!r}" for name, value in body.items())
    return "\n".join(
        [
            "from openai import OpenAI",
            "from route import entry_for",
            "",
            f"model = entry_for({_example(gathered)[1]!r})",
            "url = f\"http://localhost:{model['port']}/v1\"",
            'client = OpenAI(base_url=url, api_key="none")',
            f'answer = client.{what}.create(model=model["name"]{arguments})',
            f"print(answer.{answer})",
        ]
    )
