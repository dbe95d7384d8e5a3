"""Exceptions and warnings of PALM; messages are one line: field, value, accepted values.

Two families: an :class:`InputError` is an invalid request (command line: exit
code 2), a :class:`WorkError` a valid request that could not be carried out (exit
code 1).
"""

from __future__ import annotations


class PalmError(Exception):
    """Base class of all errors of PALM."""


class InputError(PalmError, ValueError):
    """Invalid request: a value, a file or a name that is not accepted."""


class WorkError(PalmError, RuntimeError):
    """A valid request could not be carried out."""


class OracleAnswerError(WorkError):
    """An oracle's answer is not a policy of its task."""


class PluginError(InputError):
    """A plugin (oracle, reward, metric) cannot be loaded by its name."""


class UnknownOracleError(PluginError):
    """No installed or known package provides an oracle of that name."""


class OracleNotInstalledError(PluginError):
    """The oracle is known, but the package that provides it is not installed."""


class OracleImportError(PluginError):
    """The oracle is installed, but importing it failed; ``__cause__`` is the reason."""


class DuplicateOracleError(PluginError):
    """Two installed packages provide an oracle of the same name."""


class PalmWarning(UserWarning):
    """The work is done, but a part of it differs from the request or from a claim."""


class RefutedClaimWarning(PalmWarning):
    """A run's own answers show that the oracle's slack is more than the oracle claims."""
