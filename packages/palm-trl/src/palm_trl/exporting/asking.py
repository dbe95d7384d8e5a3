"""How the models of a run were asked when they were measured, as far as its task tells."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from palm_eval.language.prompts import FORMATS
from palm_trl.exporting.gathering import oracle_options
from palm_trl.options import PRESET_OPTIONS

if TYPE_CHECKING:
    from palm_core.portfolio import Portfolio


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
    """Read the task; the defaults of our own oracle are filled in, others' are not known."""
    options = oracle_options(portfolio)
    if options.get("name") == "grpo":
        from palm_trl.oracle import GrpoOracle

        preset = PRESET_OPTIONS.get(str(options.get("preset", "objective")), {})
        ours = {one.name: one.default for one in fields(GrpoOracle)}
        options = {**ours, **preset, **options}
    form, system = options.get("format"), options.get("system")
    temperature, most = options.get("temperature"), options.get("new_tokens")
    dtype = options.get("dtype")
    return Asking(
        form=FORMATS.get(form, form) if isinstance(form, str) else None,
        system=system if isinstance(system, str) else None,
        temperature=float(temperature) if isinstance(temperature, (int, float)) else None,
        new_tokens=most if isinstance(most, int) else None,
        dtype=dtype if isinstance(dtype, str) and dtype != "auto" else None,
    )
