"""How the models of a run were asked when they were measured, as far as they and the task tell."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from palm_eval.language.prompts import FORMATS
from palm_trl.exporting.gathering import oracle_options
from palm_trl.options import PRESET_OPTIONS

if TYPE_CHECKING:
    from palm_core.portfolio import Portfolio

_READ = ("format", "system", "temperature", "new_tokens", "dtype")


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How prompts were put and responses drawn; ``None`` is unknown.

    Args:
        form: "chat", or a template with {prompt}.
        system: what the system says first.
        temperature: 0 is greedy.
        new_tokens: the most tokens of a response.
        dtype: that the models were run in.
    """

    form: str | None
    system: str | None
    temperature: float | None
    new_tokens: int | None
    dtype: str | None

    @property
    def chat(self) -> bool:
        """Whether prompts go through the chat template."""
        return self.form == "chat"

    def defaults(self) -> str | None:
        """Sampling defaults for vLLM, as JSON."""
        return None if self.temperature is None else json.dumps({"temperature": self.temperature})

    def body(self, prompt: str) -> dict[str, Any]:
        """What a request to the server says beside the model."""
        most = {} if self.new_tokens is None else {"max_tokens": self.new_tokens}
        if self.chat:
            said = [] if self.system is None else [{"role": "system", "content": self.system}]
            return {"messages": [*said, {"role": "user", "content": prompt}], **most}
        return {"prompt": (self.form or "{prompt}").replace("{prompt}", prompt), **most}


def asking_of(portfolio: Portfolio) -> Asking:
    """Read what policies say of themselves, else what the task says.

    Where the oracle is our own, its defaults are known too.
    """
    options, info = oracle_options(portfolio), portfolio.policies[0].info
    if options.get("name") == info.get("oracle") == "grpo":
        from palm_trl.settings import GrpoSettings

        preset = PRESET_OPTIONS.get(str(options.get("preset", "objective")), {})
        options = {**{one.name: one.default for one in fields(GrpoSettings)}, **preset, **options}
    told = {name: info.get(name, options.get(name)) for name in _READ}
    form, temperature = told["format"], told["temperature"]
    return Asking(
        form=FORMATS.get(form, form) if isinstance(form, str) else None,
        system=_if(told["system"], str),
        temperature=None if _if(temperature, (int, float)) is None else float(temperature),
        new_tokens=_if(told["new_tokens"], int),
        dtype=None if told["dtype"] == "auto" else _if(told["dtype"], str),
    )


def _if(value: Any, kind: Any) -> Any:
    """``value`` if it is of its kind; a stranger's file may hold anything."""
    return value if isinstance(value, kind) and not isinstance(value, bool) else None
