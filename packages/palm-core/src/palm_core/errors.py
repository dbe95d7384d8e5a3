"""The errors PALM raises, each one line: the field, the value, what is accepted.

Two families, told apart by who has to act: an :class:`InputError` means the
request was wrong (command line: exit code 2), a :class:`WorkError` that a
sound request could not be carried out (exit code 1).
"""

from __future__ import annotations


class PalmError(Exception):
    """Base of every error that PALM raises on purpose."""


class InputError(PalmError, ValueError):
    """The request was wrong: a value, a file or a name that is not accepted."""


class WorkError(PalmError, RuntimeError):
    """The request was sound, but the work failed."""


class OracleAnswerError(WorkError):
    """An oracle answered with something that is not a policy of its task."""


class PluginError(InputError):
    """A plugin cannot be had by its name; for oracles, rewards and metrics."""


class UnknownOracleError(PluginError):
    """No installed or known package provides an oracle of that name."""


class OracleNotInstalledError(PluginError):
    """The oracle is known, but the package that provides it is not installed."""


class OracleImportError(PluginError):
    """The oracle is installed, but importing it failed; ``__cause__`` says why."""


class DuplicateOracleError(PluginError):
    """Two installed packages provide an oracle of the same name."""


class PalmWarning(UserWarning):
    """The work is done, but something about it is not as it was asked or claimed."""


class RefutedClaimWarning(PalmWarning):
    """A run's own answers show that the oracle's slack is more than the oracle claims."""
