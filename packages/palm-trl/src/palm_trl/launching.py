"""A call by its launcher: in a process of its own, in several, or here.

Where a run's ``num_gpus`` or the user's CUDA_VISIBLE_DEVICES says which GPUs a worker may use,
its calls use those: under Ray one call for each group of GPUs. A call of one process takes the
first of them.

On several machines ``processes`` counts those of all, and ``launch`` says how they find each
other (``--nnodes=2 --nproc-per-node=4 --rdzv-endpoint=…``). Only this machine's are started
here: on the others, which must see the run's folder under the same name, a scheduler or a
multi-node launcher of accelerate's has to start ``-m palm_trl.process FOLDER``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import IO, TYPE_CHECKING

from palm_core.errors import WorkError
from palm_core.files import write_atomically
from palm_core.simplex import check_weights
from palm_core.text import one_line
from palm_trl.calling import CALL, LEASH, MEASURED, perform
from palm_trl.failures import ERROR, read_failure
from palm_trl.saving import POLICY

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from palm_trl.settings import GrpoSettings

#: Lines of a process's output that the error tells, where it left no other.
LINES = 12
#: Seconds that a process has to end when it is asked to.
GRACE = 10.0


def run_call(
    settings: GrpoSettings, weights: NDArray[np.float64], folder: Path, *, start: Path | None = None
) -> None:
    """Train and measure the policy for ``weights``, by its launcher.

    Leaves ``policy``, ``training.jsonl`` and ``measurement.json`` in ``folder``; does only
    what is not there yet. The processes' output goes to standard error. They end when this
    process ends, however it does.

    Args:
        settings: say how.
        weights: (d,).
        folder: of the call; made where it is not there.
        start: the adapter that training starts from, or ``None``.

    Raises:
        InputError: see :func:`palm_trl.training.train`; other processes than asked for.
        WorkError: it failed, or a process died: then with its last lines.
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
    status, lines = _run(command(settings, folder))
    error = read_failure(folder)
    if error is not None:
        raise error
    if status or not (folder / POLICY).is_dir() or not (folder / MEASURED).exists():
        raise WorkError(f"the call's process {_ended(status)}; it said last: {_last(lines)}")


def command(settings: GrpoSettings, folder: Path) -> list[str]:
    """The command line that runs the call of ``folder``."""
    module = ["-m", "palm_trl.process", str(folder)]
    given = [one.split("=", 1)[0].replace("_", "-") for one in settings.launch]
    if settings.launcher == "torchrun":
        ours = []
        if not {"--nproc-per-node"} & set(given):
            ours = ["--nproc-per-node", str(settings.processes)]
        if not {"--nnodes", "--standalone", "--rdzv-backend", "--master-port"} & set(given):
            ours += ["--standalone"]  # at a port of its own: several calls share a machine
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
    """Ours, with the same modules in reach, and none in the current folder by accident."""
    paths = [str(Path(one).absolute()) for one in sys.path]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONSAFEPATH": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TQDM_DISABLE": "1",
        LEASH: "1",
    }


def _run(line: list[str]) -> tuple[int, list[str]]:
    """Run ``line``, its output passed on; the exit status and the last lines."""
    last: deque[str] = deque(maxlen=LINES)
    # In our session and group: whoever ends those ends it too.
    process = subprocess.Popen(
        line,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=_environment(),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    reader = threading.Thread(target=_pass_on, args=(process.stdout, last), daemon=True)
    reader.start()
    try:
        process.wait()
    except BaseException:
        process.stdin.close()  # the leash: ends the processes below it as well
        process.terminate()
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    finally:
        process.stdin.close()
        reader.join(GRACE)
        if not reader.is_alive():
            process.stdout.close()
    return process.returncode, list(last)


def _pass_on(stream: IO[bytes], last: deque[str]) -> None:
    for line in stream:
        text = line.decode(errors="replace")
        if text.strip():
            last.append(text.rstrip())
        sys.stderr.write(text)
        sys.stderr.flush()


def _ended(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    name = signal.Signals(-status).name
    why = " (usually by the system, which was out of memory)" if name == "SIGKILL" else ""
    return f"was ended by {name}{why}"


def _last(lines: list[str]) -> str:
    return one_line(" | ".join(lines[-4:]), 400) or "nothing"
