"""``palm completion``: commands and options completed by the Tab key."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

from cyclopts import Parameter

from palm_core.cli import output
from palm_core.cli.parameters import Flag


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish", "powershell"], Parameter(name="SHELL")],
    /,
    *,
    install: Flag = False,
) -> None:
    """Let the Tab key complete commands and options in your shell.

        palm completion bash --install

    Without --install the script is printed, to be put where you keep such things.

    Parameters
    ----------
    shell
        bash, zsh, fish or powershell.
    install
        Write the script to its usual place, and have the shell's startup file read it.
    """
    from palm_core.cli.app import make_app

    app = make_app()
    if install:
        place = app.install_completion(shell=shell)
        output.say(f"Written to {place}. It works in shells that are started from now on.")
    else:
        sys.stdout.write(app.generate_completion(shell=shell))
