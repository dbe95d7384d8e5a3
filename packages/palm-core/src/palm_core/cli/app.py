"""The application: its commands, and how what went wrong is told."""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from cyclopts import App, CycloptsError

from palm_core import __version__
from palm_core.cli import mistakes, model_commands, output, run_commands, status_commands
from palm_core.cli.commands import PALM, PARAMETERS, group_of
from palm_core.cli.completion import add_completion
from palm_core.cli.help_pages import HelpPages
from palm_core.cli.plugin_commands import add_commands
from palm_core.errors import InputError, PalmError, RefutedClaimWarning
from palm_core.text import harmless, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LONGEST_ERROR = 4000
HELP = """Few policies for many preferences, and proof that they are enough.

    palm select models.csv --maximize helpful --minimize cost --epsilon 0.02
    palm build task.toml --out runs/first
    palm COMMAND --help
"""
FLAGS = {"--help": "Say what a command does and takes.", "--version": "Tell what is installed."}

OWN = (
    model_commands.select,
    model_commands.route,
    run_commands.oracles,
    run_commands.plan,
    run_commands.build,
    run_commands.prune,
    status_commands.status,
    status_commands.runs,
)


def make_app(arguments: Sequence[str] = ()) -> App:
    """Return the application with all the commands that ``arguments`` may name."""
    app = App(
        name="palm",
        help=HELP,
        help_format="plaintext",
        help_formatter=HelpPages(),
        console=output.out(),
        version=_versions,
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
    asked = () if arguments[:1] == ["completion"] else arguments  # it completes them all
    add_commands(app, asked, [*(function.__name__ for function in OWN), "completion"])
    for flag in ("--help", "--version"):
        app[flag].group, app[flag].sort_key = group_of(flag)
        app[flag].help = FLAGS[flag]
    return app


def run(arguments: Sequence[str]) -> int:
    """Run one command line.

    Returns:
        The exit code: 0 done, 1 the work failed, 2 the request was wrong.
    """
    asked = [*arguments[1:], "--help"] if arguments[:1] == ["help"] else list(arguments)
    try:
        with _warnings_in_a_line():
            make_app(asked)(asked)
        if sys.stdout is not None:
            sys.stdout.flush()
    except CycloptsError as error:
        return _fail(mistakes.told(error), 2)
    except PalmError as error:
        return _fail(str(error), 2 if isinstance(error, InputError) else 1)
    except MemoryError:
        return _fail("this needs more memory than there is", 1)
    except KeyboardInterrupt as error:
        return _fail("stopped", 143 if type(error).__name__ == "Terminated" else 130)
    except BrokenPipeError:
        # The reader (head, less) went away: nothing is wrong, but nothing more
        # can be said, not even by the interpreter's last flush.
        _say_no_more()
    except OSError as error:
        _say_no_more()
        where = "the output" if error.filename is None else error.filename
        return _fail(f"{where}: {error.strerror or error}", 1)
    return 0


@contextmanager
def _warnings_in_a_line() -> Iterator[None]:
    """Print :class:`RefutedClaimWarning` as a line on standard error; others as Python does."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", RefutedClaimWarning)
        as_ever = warnings.showwarning

        def show(
            message: Warning | str, category: type[Warning], *place: Any, **options: Any
        ) -> None:
            if issubclass(category, RefutedClaimWarning):
                output.err().print(f"warning: {harmless(str(message))}", markup=False)
            else:
                as_ever(message, category, *place, **options)

        warnings.showwarning = show
        yield


def _versions() -> str:
    from palm_core.provenance import versions

    found = {"palm-core": __version__} | versions(*PALM)
    return "\n".join(f"{name} {found[name]}" for name in (*PALM, "python") if name in found)


def _say_no_more() -> None:
    with suppress(OSError, ValueError, AttributeError):  # no output, or not a file: nothing to turn
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int) -> int:
    if sys.stderr is not None:
        line = one_line(" ".join(message.split()), LONGEST_ERROR)
        with suppress(OSError):  # nobody listens
            sys.stderr.write(f"palm: {line}\n")
    return code
