"""The policy for one weight vector: trained if needed, measured, stored as an artifact.

A call works in a folder of its own below the run's ``work_dir``. The result is written to the
policy's artifact atomically, and the folder is removed; a call that was killed resumes from
it. An artifact records its request, so that an answer that was not yet in the ledger when the
run was killed is recovered from the artifact.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from palm_core.plugin import weight_id, write_artifact, write_atomically
from palm_eval import write_responses
from palm_trl.measurement import Measurement, policy_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from palm_core import Policy
    from palm_trl.options import GrpoSettings

MEASURED, ASKED, CURVES, TRAINED = "measurement.json", "answer.json", "training.jsonl", "policy"


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a folder is the answer to.

    Args:
        fingerprint: of the oracle.
        weights: (d,).
        start: the artifact whose adapter training starts from; ``None`` is the model itself.
    """

    fingerprint: str
    weights: list[float]
    start: str | None = None


def answer(settings: GrpoSettings, weights: NDArray[np.float64]) -> Policy:
    """The policy for ``weights`` (d,): from its artifact, or trained and measured.

    Raises:
        InputError: an option, the model, prompts or a reward is invalid.
        WorkError: training or measurement failed. The same call later resumes from the
            last checkpoint.
    """
    from palm_trl.process import run_call

    name, fingerprint = weight_id(weights), settings.fingerprint
    if settings.artifact_dir is not None:
        made = Path(settings.artifact_dir) / name
        known = _asked(made)
        if known is not None and known.fingerprint == fingerprint:
            return policy_of(
                settings, weights, Measurement.load(made / MEASURED), name, known.start
            )
    with _folder(settings, name) as folder:
        asked = _begun(settings, folder, weights, fingerprint)
        start = None
        if asked.start is not None:
            assert settings.artifact_dir is not None
            start = Path(settings.artifact_dir) / asked.start
        run_call(settings, weights, folder, start=start)
        measured = Measurement.load(folder / MEASURED)
        artifact = None
        if settings.artifact_dir is not None:
            artifact = name
            _keep(settings, measured, folder, name)
    return policy_of(settings, weights, measured, artifact, asked.start)


@contextmanager
def _folder(settings: GrpoSettings, name: str) -> Iterator[Path]:
    """The work folder of a call: kept if the block fails, removed on success."""
    if settings.work_dir is None:
        with tempfile.TemporaryDirectory(prefix="palm-grpo-") as made:
            yield Path(made)
        return
    folder = Path(settings.work_dir) / name
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    shutil.rmtree(folder)


def _begun(
    settings: GrpoSettings, folder: Path, weights: NDArray[np.float64], fingerprint: str
) -> Asked:
    """The request of the call in ``folder``; starts a new call if it does not match."""
    begun = _asked(folder)
    if (
        begun is not None
        and begun.fingerprint == fingerprint
        and (begun.start is None or _asked(Path(settings.artifact_dir or "") / begun.start))
    ):
        return begun
    for left in folder.iterdir():
        shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
    start = _nearest(settings, weights, fingerprint) if settings.start == "nearest" else None
    asked = Asked(fingerprint, np.asarray(weights).tolist(), start)
    write_atomically(folder / ASKED, msgspec.json.encode(asked))
    return asked


def _nearest(settings: GrpoSettings, weights: NDArray[np.float64], fingerprint: str) -> str | None:
    """The finished artifact with the nearest weights (‖·‖₁); ties are broken by name."""
    if settings.artifact_dir is None or not Path(settings.artifact_dir).is_dir():
        return None
    found = []
    for folder in Path(settings.artifact_dir).iterdir():
        asked = _asked(folder)
        if asked is not None and asked.fingerprint == fingerprint:
            distance = float(np.abs(np.asarray(asked.weights) - weights).sum())
            found.append((distance, folder.name))
    return min(found)[1] if found else None


def _asked(folder: Path) -> Asked | None:
    """The request recorded in ``folder``; ``None`` if there is none."""
    try:
        return msgspec.json.decode((folder / ASKED).read_bytes(), type=Asked)
    except (OSError, msgspec.DecodeError):
        return None  # missing or incomplete: the request is answered again


def _keep(settings: GrpoSettings, measured: Measurement, folder: Path, name: str) -> None:
    """Write the artifact from the contents of ``folder``."""
    assert settings.artifact_dir is not None
    prompts = settings.evaluation_prompts.chosen(measured.prompts)
    with write_artifact(settings.artifact_dir, name) as place:
        shutil.copytree(folder / TRAINED, place, dirs_exist_ok=True, copy_function=_linked)
        for file in (CURVES, MEASURED, ASKED):
            _linked(folder / file, place / file)
        write_responses(place, prompts.texts, measured.texts, prompts.columns)


def _linked(source: str | Path, target: str | Path) -> Any:
    """Hard-link where possible, so that weights do not take disk space twice."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)
    return target
