"""Export of a portfolio's models, for serving or publication: targets of ``palm export``.

Only measured models are exported: every artifact is validated against its hash in the run's
ledger first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def vllm(
    source: Path, *, out: Path | None = None, task: Path | None = None, base: str | None = None
) -> dict[str, Any]:
    """Export a portfolio to be served by vLLM: models, a start script, a routing table.

    Args:
        source: a run's folder, or its ``portfolio.json``.
        out: the folder to write; ``None`` for ``export/vllm`` in the run's folder.
        task: the run's task file, needed if the base model's folder is relative to it.
        base: the adapters' base model, if it has moved.

    Raises:
        InputError, WorkError: as :func:`palm_trl.export.folder.write_export`.
    """
    made = _export("vllm", source, out, task, base)
    return made | {"next": f"Serve it: bash {made['export']}/serve.sh"}


def hf(
    source: Path, *, out: Path | None = None, task: Path | None = None, base: str | None = None
) -> dict[str, Any]:
    """Export a portfolio as folders for the Hugging Face hub, with model cards.

    Arguments and errors as of :func:`vllm`.
    """
    return _export("hf", source, out, task, base)


def _export(
    to: str, source: Path, out: Path | None, task: Path | None, base: str | None
) -> dict[str, Any]:
    from msgspec import to_builtins

    from palm_core import open_run
    from palm_core.plugin import is_folder
    from palm_eval.plugin import oracle_of
    from palm_trl.export.folder import write_export

    if task is not None:
        home = source if is_folder(source) else source.parent
        oracle_of(open_run(home), home, task)
    place = None if task is None else task.parent
    made = write_export(source, to, out, task_dir=place, base=base)
    return {
        "export": str(made.folder),
        "to": to,
        "objectives": list(made.routing.objectives),
        "models": [
            {
                "name": model.name,
                "policy": model.policy,
                "path": str(made.folder / model.path),
                "share": model.share,
                "serves": to_builtins(model.serves),
                "port": model.port,
            }
            for model in made.routing.models
        ],
        "missing": list(made.missing),
    }
