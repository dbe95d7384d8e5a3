"""What the policies of a run answered, each to the same prompts where they share them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palm_core.artifacts import FOLDER, locate
from palm_core.errors import InputError
from palm_core.files import is_folder
from palm_core.text import one_line
from palm_eval.responses import FILE_NAME, read_responses
from palm_eval.rewards.texts import messages

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from palm_core import Policy
    from palm_eval.responses import Responses


@dataclass(frozen=True)
class RunResponses:
    """What the policies of a run answered, and why nothing is known of others.

    Attributes:
        found: policy id → all its responses.
        missing: policy id → why it has none, in words.
        prompts: those that all policies in ``found`` answered, in the order of the first.
        answers: policy id → its completions of each of ``prompts``, at least one each.
        n_prompts: how many different prompts any of them answered.
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
    out of that folder. What is absent or damaged is told in ``missing``; nothing is raised.

    Prompts are matched by what they say, wherever they stand: a string is the same prompt
    as a conversation of that one message. One that is given n times is n prompts.

    Args:
        run: its folder.
        policies: with ids of their own.
    """
    folder = Path(run) / FOLDER
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
    """The responses in an artifact, or :class:`InputError`: why there are none."""
    shown = f"its artifact {one_line(repr(given), 80)}"
    # A run records what lies in its folder by its path there.
    if "://" in given or Path(given).is_absolute():
        raise InputError(f"{shown} lies outside the run and is not read")
    if not is_folder(locate(folder, given)):
        raise InputError(f"{shown} is a file, must be a folder with {FILE_NAME} in it")
    file = folder / given / FILE_NAME
    try:
        # A folder of that name would be looked into, wherever that leads.
        own = not is_folder(locate(folder, f"{given}/{FILE_NAME}"))
    except InputError:  # a link, to nothing or out of the run, or no file at all
        own = False
    if not own:
        raise InputError(f"{shown} has no {FILE_NAME} of its own")
    answered = read_responses(file)
    if not answered.prompts:
        raise InputError(f"{shown} has an empty {FILE_NAME}")
    return answered


def _places(prompts: Sequence[Any]) -> dict[tuple[str, int], int]:
    """Where each prompt stands: by what it says, and the how manieth of its kind it is."""
    times: Counter[str] = Counter()
    places = {}
    for place, prompt in enumerate(prompts):
        said = json.dumps(messages(prompt, role="user", name="prompt"), sort_keys=True)
        places[said, times[said]] = place
        times[said] += 1
    return places
