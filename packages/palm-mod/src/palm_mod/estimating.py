"""What decoding takes, before it begins: downloads, memory, GPU hours; estimates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_eval.language.estimates import computing, downloads, gigabytes, judges_of, sized
from palm_eval.language.sources import source_of

if TYPE_CHECKING:
    from palm_mod.settings import LanguageSettings


def estimated(settings: LanguageSettings, calls: int | None) -> dict[str, str]:
    """What ``calls`` calls take, in words by what it is of.

    Args:
        settings: say which models decode what.
        calls: how many; ``None`` where that is not known.
    """
    where = settings.sources()
    named = [*(where["models"] or ()), *([where["base"]] if where["base"] else ())]
    if where["reference"] and where["adapters"] is None:
        named.append(where["reference"])
    experts = [sized(source_of(name)) for name in named]
    judges = judges_of(settings.functions)
    adapters = [sized(source_of(name)) for name in where["adapters"] or ()]
    found = {"downloads": downloads([*experts, *adapters, *judges])}
    sizes = [one.parameters for one in experts]
    if any(size is None for size in sizes):
        return found
    held = sum(size or 0.0 for size in sizes)
    scored = sum(judge.parameters or 0.0 for judge in judges)
    each = 4 if settings.dtype == "float32" else 2
    found["memory"] = (
        f"{gigabytes(held * each + scored * 2)} for the models"
        + (" and the reward models" if judges else "")
        + "; caches on top"
    )
    # Of adapters each is a row of its own in the base's batch.
    rows = len(settings.objectives) if where["adapters"] is not None else 1
    tokens = len(settings.asked.texts) * settings.samples * settings.new_tokens
    found["computing"] = (
        computing(tokens * scored * 2.0, tokens * held * 2.0 * rows, calls)
        + "; less where weights agree on what they answer"
    )
    return found
