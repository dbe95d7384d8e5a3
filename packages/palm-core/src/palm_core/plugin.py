"""API for plugins: oracles, rewards, metrics, commands, executors, exporters, trackers.

The public names for packages that extend palm-core, beside those of :mod:`palm_core`; the
packages of this repository import no others. Every name is documented where it is defined and
imported lazily, so that importing this module needs no NumPy.
"""

from __future__ import annotations

import ast
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from palm_core.cli import output
    from palm_core.cli.parameters import (
        Count,
        Counts,
        File,
        Flag,
        Folder,
        Names,
        RunFolder,
        TableOption,
        TaskFile,
        TaskOption,
        check_new_file,
        check_output_folder,
    )
    from palm_core.cli.progress import ProgressDisplay, progress_bar, resumable
    from palm_core.geometry.envelope import drop_dominated
    from palm_core.model.files import (
        is_folder,
        oracle_versions,
        package_versions,
        read_bounded,
        unportable_name,
        write_atomically,
    )
    from palm_core.model.policy import add_policy
    from palm_core.oracles.protocol import Claims, check_answer, check_oracle, weight_id
    from palm_core.oracles.registry import PluginKind
    from palm_core.run.artifacts import (
        ARTIFACTS,
        Artifact,
        locate_artifact,
        verify_artifact,
        write_artifact,
    )
    from palm_core.run.assembly import EvaluatedAnswers
    from palm_core.run.config import (
        Grid,
        PruneSettings,
        Settings,
        Task,
        TaskOracle,
        changed_fields,
        fingerprint_fields,
        load_task,
        load_task_oracle,
        with_fingerprint,
    )
    from palm_core.run.executors.process import ChildProcess
    from palm_core.run.ledger import Answer, Ledger
    from palm_core.validation import (
        bound_text,
        check_choice,
        check_count,
        check_number,
        did_you_mean,
        error_reason,
        number_text,
        one_line,
        percent_text,
        read_number,
        weights_text,
    )


def on_demand(module: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a module with lazy imports (PEP 562).

    The names of its ``__all__`` are imported when first used, from where it imports them for
    type checkers, under ``if TYPE_CHECKING``.

    Args:
        module: its ``__name__``.
    """
    own: Any = sys.modules[module]
    home = {
        name.name: line.module
        for block in ast.parse(own.__loader__.get_source(module)).body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for line in block.body
        if isinstance(line, ast.ImportFrom) and line.module
        for name in line.names
        if name.name in own.__all__
    }

    def get(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        place = import_module(home[name])
        if place is own or not hasattr(place, name):  # a submodule
            value: Any = import_module(f"{home[name]}.{name}")
        else:
            value = getattr(place, name)
        # Cached in the module, where it takes precedence over a submodule of that name.
        setattr(own, name, value)
        return value

    return get, lambda: sorted({*vars(own), *home})


__all__ = [
    "ARTIFACTS",
    "Answer",
    "Artifact",
    "ChildProcess",
    "Claims",
    "Count",
    "Counts",
    "EvaluatedAnswers",
    "File",
    "Flag",
    "Folder",
    "Grid",
    "Ledger",
    "Names",
    "PluginKind",
    "ProgressDisplay",
    "PruneSettings",
    "RunFolder",
    "Settings",
    "TableOption",
    "Task",
    "TaskFile",
    "TaskOption",
    "TaskOracle",
    "add_policy",
    "bound_text",
    "changed_fields",
    "check_answer",
    "check_choice",
    "check_count",
    "check_new_file",
    "check_number",
    "check_oracle",
    "check_output_folder",
    "did_you_mean",
    "drop_dominated",
    "error_reason",
    "fingerprint_fields",
    "is_folder",
    "load_task",
    "load_task_oracle",
    "locate_artifact",
    "number_text",
    "on_demand",
    "one_line",
    "oracle_versions",
    "output",
    "package_versions",
    "percent_text",
    "progress_bar",
    "read_bounded",
    "read_number",
    "resumable",
    "unportable_name",
    "verify_artifact",
    "weight_id",
    "weights_text",
    "with_fingerprint",
    "write_artifact",
    "write_atomically",
]

if not TYPE_CHECKING:  # a type checker would treat every attribute as defined
    __getattr__, __dir__ = on_demand(__name__)
