"""The folder of an export, written atomically."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from palm_core import InputError, WorkError
from palm_core.plugin import (
    check_choice,
    is_folder,
    one_line,
    package_versions,
    read_bounded,
    write_artifact,
)
from palm_trl.export.cards import model_card
from palm_trl.export.models import gather, name_base
from palm_trl.export.routing import RoutingDocument, routing_of
from palm_trl.export.serving import (
    asking_of,
    check_served,
    serve_readme,
    serve_script,
    served_paths,
    served_ports,
)

if TYPE_CHECKING:
    from palm_trl.export.models import Gathered, Model

FORMAT: Final = "palm-export"
#: The file that identifies an export and lists its models.
MARK = "export.json"
TARGETS = ("vllm", "hf")
#: The folder of exports in a run's folder.
BELOW_RUN = "export"
_LARGEST_MARK = 1 << 24


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A written export.

    Args:
        folder: its path.
        routing: the routing table, as written.
        missing: missing prerequisites of its use, in words.
    """

    folder: Path
    routing: RoutingDocument
    missing: tuple[str, ...] = ()


def write_export(
    run: str | Path,
    to: str,
    out: str | Path | None = None,
    *,
    task_dir: str | Path | None = None,
    base: str | None = None,
) -> Exported:
    """Copy the models of a portfolio into a folder for serving or publication.

    Args:
        run: the run's folder, or its ``portfolio.json``.
        to: "vllm" or "hf".
        out: a folder that is new, empty, or an earlier export, which is replaced;
            by default ``export/vllm`` or ``export/hf`` in the run's folder.
        task_dir: the folder of the run's task, which may contain the adapters' base model.
        base: the adapters' base model, if it has moved.

    Raises:
        InputError: there is nothing to export, or an artifact has changed; ``out`` is another
            kind of folder.
        WorkError: the export cannot be written.
    """
    check_choice(to, TARGETS, name="to")
    run = Path(run)
    home = run if is_folder(run) else run.parent
    folder = (home / BELOW_RUN / to if out is None else Path(out)).resolve()
    _check_free(folder)
    gathered = gather(run, None if task_dir is None else Path(task_dir), base)
    if to == "vllm":
        check_served(gathered)
        routing = routing_of(gathered, served_paths(gathered), served_ports(gathered))
    else:
        routing = routing_of(gathered, [model.name for model in gathered.models], None)
    try:
        with write_artifact(folder.parent, folder.name) as place:
            for model, record in zip(gathered.models, routing.models, strict=True):
                model.files.copy(place / record.path)
                if to == "hf":
                    card = model_card(gathered, model)
                    (place / record.path / "README.md").write_text(card, encoding="utf-8")
                    if gathered.base is not None:
                        name_base(place / record.path, gathered.base.name)
            if to == "vllm":
                asking = asking_of(gathered.portfolio)
                script = place / "serve.sh"
                script.write_text(serve_script(gathered, asking), encoding="utf-8")
                script.chmod(0o755)
                readme = serve_readme(gathered, asking)
                (place / "README.md").write_text(readme, encoding="utf-8")
            _write_routing(place, routing)
            mark = json.dumps(_mark(gathered, to), indent=2) + "\n"
            (place / MARK).write_text(mark, encoding="utf-8")
    except OSError as error:
        reason = one_line(error.strerror or error)
        raise WorkError(f"{one_line(folder)}: cannot be written: {reason}") from error
    return Exported(
        folder=folder,
        routing=routing,
        missing=tuple(_missing(gathered, sure=bool(task_dir or base))),
    )


def _check_free(folder: Path) -> None:
    """Refuse to replace anything but an earlier export."""
    if not folder.name:
        raise InputError(f"--out {one_line(folder)}: must be a folder with a name")
    if not folder.exists():
        return
    if not is_folder(folder):
        raise InputError(f"--out {one_line(folder)}: is a file, must be a folder")
    if not any(folder.iterdir()):
        return
    try:
        found = json.loads(read_bounded(folder / MARK, _LARGEST_MARK))
        earlier = isinstance(found, dict) and found.get("format") == FORMAT
    except (ValueError, RecursionError):
        earlier = False
    if not earlier:
        raise InputError(
            f"--out {one_line(folder)}: has other files, must be new, empty or an earlier export"
        )


def _write_routing(place: Path, routing: RoutingDocument) -> None:
    data = msgspec.json.format(msgspec.json.encode(routing)) + b"\n"
    (place / "routing.json").write_bytes(data)
    source = files("palm_trl.export").joinpath("router.py").read_bytes()
    (place / "route.py").write_bytes(source)


def _mark(gathered: Gathered, to: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": 1,
        "to": to,
        "run": gathered.run,
        "task_hash": gathered.portfolio.task_hash,
        "models": [_entry(model) for model in gathered.models],
        "made_with": package_versions("palm-eval", "palm-trl"),
    }


def _entry(model: Model) -> dict[str, str]:
    return {
        "name": model.name,
        "policy": model.policy.id,
        "artifact": model.artifact.path,
        "artifact_sha256": model.artifact.sha256,
    }


def _missing(gathered: Gathered, *, sure: bool) -> list[str]:
    base = gathered.base
    if base is None or Path(base.name).is_dir() or (base.on_hub and sure):
        return []
    if base.on_hub:
        return [f"the base model {one_line(base.name)} is taken for a name on the hub"]
    return [f"the base model {one_line(base.name)} is not on this machine"]
