"""``palm completion``: commands and options completed by the Tab key."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from palm_core.cli import output
from palm_core.cli.commands import group_of
from palm_core.cli.parameters import Flag

if TYPE_CHECKING:
    from cyclopts import App

Shell = Annotated[Literal["bash", "zsh", "fish", "powershell"], Parameter(name="SHELL")]


def add_completion(app: App) -> None:
    """Add the command to the application whose commands it completes."""

    def completion(shell: Shell, /, *, install: Flag = False) -> None:
        """Let the Tab key complete commands and options.

            palm completion bash --install

        Without --install the script is printed, to be put where you keep such things.

        Parameters
        ----------
        shell
            The shell that you type commands in.
        install
            Write the script to its usual place, and have the shell's startup file read it.
        """
        if install:
            place = app.install_completion(shell=shell)
            output.say(f"Written to {place}. It works in shells that are started from now on.")
        else:
            sys.stdout.write(app.generate_completion(shell=shell))

    group, place = group_of("completion")
    app.command(completion, group=group, sort_key=place)
