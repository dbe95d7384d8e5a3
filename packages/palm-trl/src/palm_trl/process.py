"""What runs in a call's own process or processes: ``python -m palm_trl.process FOLDER``.

It trains, then the first process measures. ``FOLDER`` holds ``call.json``; where it fails it
leaves ``error.json`` and ends with 2 where the request was wrong, with 1 where the work failed.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palm_core.errors import InputError, PalmError, WorkError
from palm_core.text import reason
from palm_trl.calling import CALL, LEASH, perform

if TYPE_CHECKING:
    from palm_trl.settings import GrpoSettings


def main(folder: Path) -> int:
    """Perform the call of ``folder``; returns the exit status."""
    _leash()
    warnings.simplefilter("ignore", FutureWarning)  # among transformers, peft and TRL
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    for name in ("palm_trl", "palm_eval"):
        logging.getLogger(name).setLevel(logging.INFO)
    from palm_trl.failures import write_failure

    try:
        _perform(folder)
    except PalmError as error:
        if error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        write_failure(folder, error)
        return 2 if isinstance(error, InputError) else 1
    except Exception as error:  # noqa: BLE001  whatever it is, who asked must be told
        traceback.print_exception(error)
        write_failure(folder, WorkError(f"the call failed: {reason(error)}"))
        return 1
    return 0


def _perform(folder: Path) -> None:
    call: dict[str, Any] = json.loads((folder / CALL).read_text(encoding="utf-8"))
    from palm_core.simplex import check_weights
    from palm_trl.settings import GrpoSettings

    settings = GrpoSettings(**call["options"])
    _check_place(settings)
    start = None if call["start"] is None else Path(call["start"])
    perform(settings, check_weights(call["weights"])[0], folder, start=start)


def _check_place(settings: GrpoSettings) -> None:
    """Refuse other processes than were asked for, and more of them than GPUs."""
    running = int(os.environ.get("WORLD_SIZE", "1"))
    if running != settings.processes:
        raise InputError(
            f"processes = {settings.processes}: launcher = {settings.launcher!r} started "
            f"{running}; must be as many as launch starts, and on CPUs launcher must be 'torchrun'"
        )
    if settings.processes == 1 and settings.device != "cpu":
        # TRL refuses a process that sees several. Before PyTorch looks for them.
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",", 1)[0]
    import torch

    from palm_eval.language.causal import device_of

    if device_of(settings.device).type == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"
        return
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if here > torch.cuda.device_count():
        raise InputError(
            f"processes = {settings.processes}: {here} on this machine, which shows "
            f"{torch.cuda.device_count()} GPUs; must be at most as many, or device = 'cpu'"
        )


def _leash() -> None:
    """End when whoever asked is gone: no call goes on for nobody."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing to tidy up, nothing to say
    if LEASH in os.environ:
        threading.Thread(target=_wait_for_end, daemon=True).start()


def _wait_for_end() -> None:
    # Not sys.stdin: its lock would be held when the interpreter ends.
    while os.read(0, 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
