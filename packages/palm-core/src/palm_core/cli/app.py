"""Application of the command line: commands, error handling, completion, help pages."""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter

from palm_core import __version__
from palm_core.cli import errors, model_commands, output, run_commands
from palm_core.cli.commands import PARAMETERS, add_commands, group_of
from palm_core.cli.parameters import Flag
from palm_core.errors import InputError, PalmError, PalmWarning
from palm_core.validation import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


LONGEST_ERROR = 4000
HELP = """Few policies for many preferences, with a proof of how good they are.

    palm select models.csv --maximize helpful --minimize cost --epsilon 0.02

    palm build task.toml --out runs/first
"""
FLAGS = {"--help": "Print help for a command.", "--version": "Print the installed versions."}
OWN = (
    model_commands.select,
    model_commands.route,
    model_commands.export,
    run_commands.oracles,
    run_commands.plan,
    run_commands.build,
    run_commands.prune,
    run_commands.status,
    run_commands.runs,
)


def make_app(arguments: Sequence[str] = ()) -> App:
    """Return the application with the commands that ``arguments`` may name."""
    app = App(
        name="palm",
        help=HELP,
        help_format="markdown",
        console=output.Lines(highlight=False, emoji=False),
        version=_versions,
        version_format="plaintext",
        exit_on_error=False,
        print_error=False,
        help_on_error=False,
        result_action="return_value",
        group_arguments=PARAMETERS,
        group_parameters=PARAMETERS,
        suppress_keyboard_interrupt=False,
    )
    for function in OWN:
        group, place = group_of(function.__name__)
        app.command(function, group=group, sort_key=place)
    add_completion(app)
    asked = () if arguments[:1] == ["completion"] else arguments  # completion needs all commands
    add_commands(app, asked, [*(function.__name__ for function in OWN), "completion"])
    for flag in ("--help", "--version"):
        app[flag].group, app[flag].sort_key = group_of(flag)
        app[flag].help = FLAGS[flag]
    return app


def run(arguments: Sequence[str]) -> int:
    """Run one command line.

    Returns:
        Exit code: 0 success, 1 the work failed, 2 invalid request.
    """
    asked = [*arguments[1:], "--help"] if arguments[:1] == ["help"] else list(arguments)
    try:
        with _warnings_as_lines():
            make_app(asked)(asked)
        if sys.stdout is not None:
            sys.stdout.flush()
    except CycloptsError as error:
        return _fail(errors.message(error), 2)
    except PalmError as error:
        return _fail(str(error), 2 if isinstance(error, InputError) else 1)
    except MemoryError:
        return _fail("out of memory", 1)
    except KeyboardInterrupt as error:
        return _fail("stopped", 143 if type(error).__name__ == "Terminated" else 130)
    except BrokenPipeError:
        # Broken pipe (head, less): not an error, but nothing more can be written,
        # not even by the interpreter's last flush.
        _say_no_more()
    except OSError as error:
        _say_no_more()
        where = "the output" if error.filename is None else error.filename
        return _fail(f"{where}: {error.strerror or error}", 1)
    return 0


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Print each :class:`PalmWarning` as a line on standard error, whatever the filters."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", PalmWarning)
        show = warnings.showwarning

        def show_line(message: Any, category: type[Warning], *where: Any, **to: Any) -> None:
            if issubclass(category, PalmWarning):
                _write_line(f"warning: {message}")
            else:
                show(message, category, *where, **to)

        warnings.showwarning = show_line
        yield


def _versions() -> str:
    from palm_core.model.files import known_packages, package_versions

    names = tuple(known_packages())
    found = {"palm-core": __version__} | package_versions(*names)
    return "\n".join(f"{name} {found[name]}" for name in (*names, "python") if name in found)


def _say_no_more() -> None:
    with suppress(OSError, ValueError, AttributeError):  # no standard output, or no file descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int) -> int:
    _write_line(message)
    return code


def _write_line(message: str) -> None:
    if sys.stderr is not None:
        line = one_line(" ".join(message.split()), LONGEST_ERROR)
        with suppress(OSError):  # standard error is closed
            sys.stderr.write(f"palm: {line}\n")


Shell = Annotated[Literal["bash", "zsh", "fish", "powershell"], Parameter(name="SHELL")]


def add_completion(app: App) -> None:
    """Add the command ``completion`` to the application."""

    def completion(shell: Shell, /, *, install: Flag = False) -> None:
        """Print or install a shell completion script.

            palm completion bash --install

        Without --install the script is printed to standard output.

        Parameters
        ----------
        shell
            The shell to complete commands in.
        install
            Write the script to its standard place and load it from the shell's startup file.
        """
        if install:
            place = app.install_completion(shell=shell)
            output.say(f"Written to {place}. Start a new shell to use it.")
        else:
            sys.stdout.write(app.generate_completion(shell=shell))

    group, place = group_of("completion")
    app.command(completion, group=group, sort_key=place)
