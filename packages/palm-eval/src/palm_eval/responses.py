"""Responses of policies: files of JSON lines, and the responses of a run.

One record for each completion, ``{"prompt_index": 0, "prompt": …, "completion": …,
"columns": {…}}``; the completions of a prompt stand together, in order. Prompts and
completions are strings or conversations.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from palm_core import InputError
from palm_core.plugin import (
    ARTIFACTS,
    is_folder,
    locate_artifact,
    one_line,
    read_bounded,
    write_atomically,
)
from palm_eval.rewards.conversations import messages

if TYPE_CHECKING:
    from palm_core import Policy

FILE_NAME = "responses.jsonl"
#: Maximum size in bytes of a file, and of a record.
LARGEST_FILE = 512 * 1024 * 1024
LARGEST_RECORD = 16 * 1024 * 1024
#: Maximum of completions in one file.
MOST_RECORDS = 1_000_000


class _Record(msgspec.Struct, forbid_unknown_fields=True):
    prompt_index: int
    prompt: str | list[dict[str, Any]]
    completion: str | list[dict[str, Any]]
    columns: dict[str, Any] = {}


@dataclass(frozen=True)
class Responses:
    """Responses of a policy: n prompts, at least one completion each.

    Attributes:
        prompts: strings or conversations.
        completions: for each prompt its completions.
        columns: by name, one value per prompt (ground truths, for instance).
    """

    prompts: tuple[Any, ...]
    completions: tuple[tuple[Any, ...], ...]
    columns: Mapping[str, tuple[Any, ...]]


def completions_of(prompts: Sequence[Any], completions: Sequence[Any]) -> list[list[Any]]:
    """The list of completions of each prompt; a single completion becomes a list of one.

    A string or a conversation (a list of messages) is one completion; a list of those is
    several.

    Raises:
        InputError: not as many entries as prompts, or an entry has no completion.
    """
    for name, values in (("prompts", prompts), ("completions", completions)):
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise InputError(f"{name} is of type {type(values).__name__}: must be a list")
    if len(prompts) != len(completions):
        raise InputError(
            f"completions: has {len(completions)} entries, must have {len(prompts)}, one per prompt"
        )
    nested = []
    for index, entry in enumerate(completions):
        single = isinstance(entry, str) or (
            isinstance(entry, Sequence) and len(entry) > 0 and isinstance(entry[0], Mapping)
        )
        if not single and (not isinstance(entry, Sequence) or not entry):
            raise InputError(f"prompt {index} has no completion, must have one or a list of them")
        nested.append([entry] if single else list(entry))
        for number, completion in enumerate(nested[-1]):
            messages(completion, role="assistant", name=f"completion {number} of prompt {index}")
        messages(prompts[index], role="user", name=f"prompt {index}")
    return nested


def check_columns(columns: Mapping[str, Sequence[Any]] | None, count: int) -> dict[str, list[Any]]:
    """Return ``columns`` as lists of one value per prompt, or raise :class:`InputError`."""
    checked = {}
    for name, values in (columns or {}).items():
        if not isinstance(name, str) or name in ("", "prompts", "completions"):
            raise InputError(f"columns: {name!r} cannot be the name of a column")
        if isinstance(values, str) or not hasattr(values, "__len__") or len(values) != count:
            shown = len(values) if hasattr(values, "__len__") else "no"
            raise InputError(f"column {name!r} has {shown} values: must be {count}, one per prompt")
        checked[name] = values.tolist() if hasattr(values, "tolist") else list(values)
    return checked


def write_responses(
    folder: str | Path,
    prompts: Sequence[Any],
    completions: Sequence[Any],
    columns: Mapping[str, Sequence[Any]] | None = None,
) -> Path:
    """Write ``responses.jsonl`` in ``folder`` atomically; return its path.

    Args:
        folder: created if missing.
        prompts: n strings or conversations.
        completions: for each prompt one completion or a list of them.
        columns: by name, one JSON-serializable value per prompt.

    Raises:
        InputError: the lengths differ, a value is not JSON, or a file or record is too large.
        WorkError: the file cannot be written.
    """
    nested = completions_of(prompts, completions)
    checked = check_columns(columns, len(prompts))
    lines: list[bytes] = []
    total = 0
    for index, (prompt, several) in enumerate(zip(prompts, nested, strict=True)):
        for completion in several:
            record = {
                "prompt_index": index,
                "prompt": prompt,
                "completion": completion,
                "columns": {name: values[index] for name, values in checked.items()},
            }
            try:
                line = json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
            except (TypeError, ValueError, RecursionError) as error:
                raise InputError(
                    f"prompt {index}: cannot be written as JSON: {one_line(error, 200)}"
                ) from error
            total += len(line)
            _check_sizes(len(line), total, len(lines) + 1, f"prompt {index}")
            lines.append(line)
    file = Path(folder) / FILE_NAME
    write_atomically(file, b"".join(lines))
    return file


def read_responses(path: str | Path) -> Responses:
    """Read what :func:`write_responses` wrote.

    Args:
        path: the file, or the folder it is in.

    Raises:
        InputError: no such file, too large, or an invalid record; its line is named.
    """
    file = Path(path)
    if is_folder(file):
        file /= FILE_NAME
    data = read_bounded(file, LARGEST_FILE, kind="file of responses")
    name = one_line(file)
    decoder = msgspec.json.Decoder(_Record)
    prompts: list[Any] = []
    completions: list[list[Any]] = []
    rows: list[dict[str, Any]] = []
    lines = data.removesuffix(b"\n").split(b"\n") if data else []
    for number, line in enumerate(lines, start=1):
        where = f"{name}, line {number}"
        _check_sizes(len(line), len(data), number, where)
        try:
            record = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InputError(
                f"{where}: must be a record of a response: {one_line(error, 200)}"
            ) from error
        messages(record.prompt, role="user", name=f"{where}: prompt")
        messages(record.completion, role="assistant", name=f"{where}: completion")
        if record.prompt_index == len(prompts):
            if rows and record.columns.keys() != rows[0].keys():
                raise InputError(f"{where}: columns differ from those of line 1")
            prompts.append(record.prompt)
            completions.append([record.completion])
            rows.append(record.columns)
        elif prompts and record.prompt_index == len(prompts) - 1:
            if record.prompt != prompts[-1] or record.columns != rows[-1]:
                raise InputError(
                    f"{where}: prompt_index = {record.prompt_index}, but another prompt or "
                    "other columns than the line before"
                )
            completions[-1].append(record.completion)
        else:
            raise InputError(
                f"{where}: prompt_index = {record.prompt_index}: must be "
                f"{max(len(prompts) - 1, 0)} or {len(prompts)}, prompts are in order"
            )
    names = rows[0].keys() if rows else ()
    return Responses(
        tuple(prompts),
        tuple(map(tuple, completions)),
        {column: tuple(row[column] for row in rows) for column in names},
    )


def _check_sizes(record: int, total: int, count: int, where: str) -> None:
    for size, most, what in (
        (record, LARGEST_RECORD, "bytes in one record"),
        (total, LARGEST_FILE, "bytes in all"),
        (count, MOST_RECORDS, "completions"),
    ):
        if size > most:
            raise InputError(f"{where}: {size} {what}, must be at most {most}")


@dataclass(frozen=True)
class RunResponses:
    """The responses of a run's policies, and reasons for missing ones.

    Attributes:
        found: policy id → all its responses.
        missing: policy id → the reason why it has none.
        prompts: prompts that all policies in ``found`` answered, in the order of the first.
        answers: policy id → its completions of each of ``prompts``, at least one each.
        n_prompts: number of distinct prompts that any of them answered.
    """

    found: Mapping[str, Responses]
    missing: Mapping[str, str]
    prompts: tuple[Any, ...]
    answers: Mapping[str, tuple[tuple[Any, ...], ...]]
    n_prompts: int

    @property
    def same_prompts(self) -> bool:
        """Whether all policies in ``found`` answered the same prompts."""
        return len(self.prompts) == self.n_prompts


def responses_of(run: str | Path, policies: Sequence[Policy]) -> RunResponses:
    """Read the responses in the artifacts of ``policies``, each artifact once.

    An artifact holds responses if it is a folder in the run's folder for artifacts with a
    file ``responses.jsonl`` in it (:func:`palm_eval.write_responses`). No path is followed
    out of that folder. Missing or damaged files are listed in ``missing``; nothing is raised.

    Prompts are matched by content, independent of order: a string is the same prompt as a
    conversation of that one message. A prompt given n times is n prompts.

    Args:
        run: its folder.
        policies: with ids of their own.
    """
    folder = Path(run) / ARTIFACTS
    read: dict[str, Responses | str] = {}
    found: dict[str, Responses] = {}
    missing: dict[str, str] = {}
    for policy in policies:
        if policy.artifact is None:
            missing[policy.id] = "it has no artifact"
            continue
        if policy.artifact not in read:
            try:
                read[policy.artifact] = _read(folder, policy.artifact)
            except InputError as error:
                read[policy.artifact] = str(error)
        answered = read[policy.artifact]
        if isinstance(answered, str):
            missing[policy.id] = answered
        else:
            found[policy.id] = answered
    places = {name: _places(answered.prompts) for name, answered in found.items()}
    first, *others = places.values() or [{}]
    common = [key for key in first if all(key in other for other in others)]
    whose = next(iter(found.values()), None)
    return RunResponses(
        found=found,
        missing=missing,
        prompts=tuple(whose.prompts[first[key]] for key in common) if whose else (),
        answers={
            name: tuple(answered.completions[places[name][key]] for key in common)
            for name, answered in found.items()
        },
        n_prompts=len({key for keys in places.values() for key in keys}),
    )


def _read(folder: Path, given: str) -> Responses:
    """The responses in an artifact; raises :class:`InputError` with the reason if none."""
    shown = f"its artifact {one_line(repr(given), 80)}"
    # A run records artifacts by their paths relative to its folder.
    if "://" in given or Path(given).is_absolute():
        raise InputError(f"{shown} lies outside the run and is not read")
    if not is_folder(locate_artifact(folder, given)):
        raise InputError(f"{shown} is a file, must be a folder with {FILE_NAME} in it")
    file = folder / given / FILE_NAME
    try:
        # Refuse a folder of that name, which read_responses would follow.
        own = not is_folder(locate_artifact(folder, f"{given}/{FILE_NAME}"))
    except InputError:  # a link that is dangling or leads out of the run, or no file
        own = False
    if not own:
        raise InputError(f"{shown} has no {FILE_NAME} of its own")
    answered = read_responses(file)
    if not answered.prompts:
        raise InputError(f"{shown} has an empty {FILE_NAME}")
    return answered


def _places(prompts: Sequence[Any]) -> dict[tuple[str, int], int]:
    """The index of each prompt, by its content and its number among equal prompts."""
    times: Counter[str] = Counter()
    places = {}
    for place, prompt in enumerate(prompts):
        said = json.dumps(messages(prompt, role="user", name="prompt"), sort_keys=True)
        places[said, times[said]] = place
        times[said] += 1
    return places
