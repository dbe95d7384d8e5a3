"""Calls in subprocesses: launcher in the parent, ``python -m palm_trl.process FOLDER`` as child.

A call trains, then its first process measures. It runs in one subprocess, in several, or in
the parent. ``FOLDER`` contains ``call.json``; a call that fails writes ``error.json`` and exits
with status 2 for an invalid request, 1 for other failures.

Calls use the GPUs that a run's ``num_gpus`` or the user's CUDA_VISIBLE_DEVICES assigns to their
worker: under Ray one call for each group of GPUs. A call of one process takes the first.

On several machines ``processes`` counts those of all, and ``launch`` sets the rendezvous
(``--nnodes=2 --nproc-per-node=4 --rdzv-endpoint=…``). Only the processes of this machine are
started here: on the others, which must mount the run's folder at the same path, a scheduler or
accelerate's multi-node launcher has to start ``-m palm_trl.process FOLDER``.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import traceback
import warnings
from collections import deque
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from palm_core import InputError, PalmError, WorkError, check_weights
from palm_core.plugin import ChildProcess, error_reason, one_line, write_atomically
from palm_trl.outcome import ERROR, POLICY, read_failure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from palm_trl.options import GrpoSettings

#: The files of a call's request and its measurement, in its folder.
CALL, MEASURED = "call.json", "measurement.json"


def perform(
    settings: GrpoSettings, weights: NDArray[np.float64], folder: Path, *, start: Path | None = None
) -> None:
    """Train and measure the policy, unless that is done already.

    If there are several processes, all train, and the first measures.

    Args:
        settings: say how.
        weights: (d,).
        folder: of the call.
        start: see :func:`palm_trl.training.train`.

    Raises:
        InputError: see :func:`palm_trl.training.train` and :func:`palm_trl.measuring.measure`.
        WorkError: likewise.
    """
    from palm_eval.plugin import release
    from palm_trl.measuring import measure
    from palm_trl.outcome import POLICY
    from palm_trl.training import train

    train(settings, weights, folder, start=start)
    _part()
    release()
    if int(os.environ.get("RANK", "0")) == 0 and not (folder / MEASURED).exists():
        measure(settings, folder / POLICY).save(folder / MEASURED)


def _part() -> None:
    """Leave the process group: the first process measures alone."""
    import torch.distributed

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


#: Lines of a process's output in the error message, if it wrote no ``error.json``.
LINES = 4
#: Seconds to wait for the last output of an ended process.
LAST_OUTPUT = 10.0


def run_call(
    settings: GrpoSettings, weights: NDArray[np.float64], folder: Path, *, start: Path | None = None
) -> None:
    """Train and measure the policy for ``weights``, by its launcher.

    Writes ``policy``, ``training.jsonl`` and ``measurement.json`` to ``folder``; skips what
    exists already. The processes' output goes to standard error. They are killed when this
    process ends or is interrupted; the same call later resumes from the last checkpoint.

    Args:
        settings: say how.
        weights: (d,).
        folder: of the call; created if missing.
        start: the adapter from which training starts, or ``None``.

    Raises:
        InputError: see :func:`palm_trl.training.train`; a wrong number of processes.
        WorkError: the call failed, or a process died; the message has its last output.
    """
    folder = Path(folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / POLICY).is_dir() and (folder / MEASURED).exists():
        return
    row = check_weights(weights, len(settings.objectives))[0]
    if settings.launcher == "here":
        perform(settings, row, folder, start=start)
        return
    (folder / ERROR).unlink(missing_ok=True)
    told = {
        "options": settings.plain_options(),
        "weights": [float(one) for one in row],
        "start": None if start is None else str(Path(start).absolute()),
    }
    write_atomically(folder / CALL, json.dumps(told).encode())
    process, lines = _run(command(settings, folder))
    error = read_failure(folder)
    if error is not None:
        raise error
    if process.poll() or not (folder / POLICY).is_dir() or not (folder / MEASURED).exists():
        raise WorkError(
            f"the call's process {process.describe_end()}; it said last: {_last(lines)}"
        )


def command(settings: GrpoSettings, folder: Path) -> list[str]:
    """The command line of the call of ``folder``."""
    module = ["-m", "palm_trl.process", str(folder)]
    given = [one.split("=", 1)[0].replace("_", "-") for one in settings.launch]
    if settings.launcher == "torchrun":
        ours = []
        if not {"--nproc-per-node"} & set(given):
            ours = ["--nproc-per-node", str(settings.processes)]
        if not {"--nnodes", "--standalone", "--rdzv-backend", "--master-port"} & set(given):
            ours += ["--standalone"]  # on a free port: several calls share a machine
        return [sys.executable, "-m", "torch.distributed.run", *ours, *settings.launch, *module]
    if settings.launcher == "accelerate":
        ours = []
        if "--num-processes" not in given:
            ours = ["--num_processes", str(settings.processes)]
        if not {"--main-process-port", "--num-machines", "--config-file"} & set(given):
            ours += ["--main_process_port", "0"]
        launch = "accelerate.commands.launch"
        return [sys.executable, "-m", launch, *ours, *settings.launch, *module]
    return [sys.executable, *module]


def _environment() -> dict[str, str]:
    """The environment with this process's import path, without the current folder."""
    paths = [str(Path(one).absolute()) for one in sys.path]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONSAFEPATH": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TQDM_DISABLE": "1",
    }


def _run(line: list[str]) -> tuple[ChildProcess, list[str]]:
    """Run ``line`` and forward its output; return the ended process and its last lines."""
    last: deque[str] = deque(maxlen=LINES)
    with ChildProcess(line, environment=_environment(), output=subprocess.PIPE) as process:
        assert process.output is not None
        reader = threading.Thread(target=_pass_on, args=(process.output, last), daemon=True)
        reader.start()
        process.wait()
    reader.join(LAST_OUTPUT)  # what has left the process group may keep the pipe open
    return process, list(last)


def _pass_on(stream: IO[bytes], last: deque[str]) -> None:
    with stream:
        for line in stream:
            text = line.decode(errors="replace")
            if text.strip():
                last.append(text.rstrip())
            sys.stderr.write(text)
            sys.stderr.flush()


def _last(lines: list[str]) -> str:
    return one_line(" | ".join(lines), 400) or "nothing"


def main(folder: Path) -> int:
    """Run the call of ``folder``; return the exit status."""
    warnings.simplefilter("ignore", FutureWarning)  # between transformers, peft and TRL
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    for name in ("palm_trl", "palm_eval"):
        logging.getLogger(name).setLevel(logging.INFO)
    from palm_trl.outcome import write_failure

    try:
        _perform(folder)
    except PalmError as error:
        if error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        write_failure(folder, error)
        return 2 if isinstance(error, InputError) else 1
    except Exception as error:  # noqa: BLE001  whatever it is, who asked must be told
        traceback.print_exception(error)
        write_failure(folder, WorkError(f"the call failed: {error_reason(error)}"))
        return 1
    return 0


def _perform(folder: Path) -> None:
    call: dict[str, Any] = json.loads((folder / CALL).read_text(encoding="utf-8"))
    from palm_core import check_weights
    from palm_trl.options import GrpoSettings

    settings = GrpoSettings(**call["options"])
    _check_place(settings)
    start = None if call["start"] is None else Path(call["start"])
    perform(settings, check_weights(call["weights"])[0], folder, start=start)


def _check_place(settings: GrpoSettings) -> None:
    """Refuse a wrong number of processes, or more processes than GPUs."""
    running = int(os.environ.get("WORLD_SIZE", "1"))
    if running != settings.processes:
        raise InputError(
            f"processes = {settings.processes}: launcher = {settings.launcher!r} started "
            f"{running}; must be as many as launch starts, and on CPUs launcher must be 'torchrun'"
        )
    if settings.processes == 1 and settings.device != "cpu":
        # TRL refuses a process with several GPUs. Set before PyTorch initialises CUDA.
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",", 1)[0]
    import torch

    from palm_eval.plugin import device_of

    if device_of(settings.device).type == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"
        return
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if here > torch.cuda.device_count():
        raise InputError(
            f"processes = {settings.processes}: {here} on this machine, which shows "
            f"{torch.cuda.device_count()} GPUs; must be at most as many, or device = 'cpu'"
        )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
