"""Prompts: files of prompts, chat templates, encoding to tokens.

Files are JSON lines in one of two layouts: TRL's, with a column "prompt" (text or a
conversation), and that of RLVR (Lambert et al. 2025), whose "messages" end in the question, or
in the answer to it, which is dropped. All other columns are passed to the rewards.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from palm_core import InputError
from palm_core.plugin import check_count, error_reason, is_folder, one_line, read_bounded
from palm_eval.rewards.conversations import messages, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

#: Maximum size of a file in bytes, and maximum number of prompts.
LARGEST_FILE = 256 * 1024 * 1024
MOST_PROMPTS = 1_000_000


@dataclass(frozen=True)
class Prompts:
    """n prompts.

    Attributes:
        texts: strings or conversations, n.
        columns: by name, one value per prompt (ground truths, for instance).
    """

    texts: tuple[Any, ...]
    columns: Mapping[str, tuple[Any, ...]]

    @property
    def fingerprint(self) -> str:
        """Hash of all prompts and columns."""
        content = json.dumps([self.texts, dict(self.columns)], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def chosen(self, numbers: Sequence[int]) -> Prompts:
        """The prompts with these numbers, in that order, possibly repeated."""
        return Prompts(
            tuple(self.texts[number] for number in numbers),
            {name: tuple(v[number] for number in numbers) for name, v in self.columns.items()},
        )


def read_prompts(path: str | Path, *, skip: int = 0, first: int | None = None) -> Prompts:
    """Read prompts, one JSON object per line: {"prompt": …, "ground_truth": …}.

    In place of "prompt" there may be "messages", see :func:`prompt_of`.

    Args:
        path: the file, or a folder with ``prompts.jsonl``.
        skip: number of lines to skip at the beginning.
        first: number of prompts to take after those; ``None`` takes all.

    Raises:
        InputError: no such file, too large, an invalid line (its number is named); or no
            prompt is left.
    """
    check_count(skip, name="skip", least=0)
    if first is not None:
        check_count(first, name="first", least=1)
    file = Path(path)
    if is_folder(file):
        file /= "prompts.jsonl"
    data = read_bounded(file, LARGEST_FILE, kind="file of prompts")
    name = one_line(file)
    lines = data.removesuffix(b"\n").split(b"\n") if data else []
    if len(lines) > MOST_PROMPTS:
        raise InputError(f"{name}: {len(lines)} prompts, must be at most {MOST_PROMPTS}")
    return prompts_of(_decoded(lines, name), name, skip=skip, first=first)


def prompts_of(
    rows: Iterable[tuple[str, Mapping[str, Any]]], place: str, *, skip: int, first: int | None
) -> Prompts:
    """Make prompts of rows in either layout.

    Args:
        rows: the name of each row in messages, and its columns.
        place: the name of the source in messages.
        skip: number of rows to skip.
        first: number of rows to take after those; ``None`` takes all.

    Raises:
        InputError: a row without a prompt, or with columns unlike the first row's; too few rows.
    """
    texts: list[Any] = []
    columns: dict[str, list[Any]] = {}
    names: list[str] | None = None
    count = 0
    for where, row in rows:
        count += 1
        text = prompt_of(row, where)
        found = sorted(row)
        if names is None:
            names = found
        elif found != names:
            raise InputError(f"{where}: columns differ from those of the first")
        if count <= skip or len(texts) == first:
            continue
        texts.append(text)
        for name, value in row.items():
            if name not in ("prompt", "messages"):
                columns.setdefault(name, []).append(value)
    if not texts or (first is not None and len(texts) < first):
        wanted = "at least one" if first is None else str(first)
        raise InputError(f"{place}: {count} prompts, must have {wanted} after skip = {skip}")
    return Prompts(tuple(texts), {name: tuple(values) for name, values in columns.items()})


def prompt_of(row: Mapping[str, Any], where: str) -> Any:
    """The prompt of a row: its "prompt", or its "messages" up to the last question.

    Args:
        row: columns by name.
        where: its name in messages.

    Raises:
        InputError: neither exists, it is not a text or conversation, or has no user message.

    Example:
        >>> said = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}]
        >>> prompt_of({"messages": said, "ground_truth": "2"}, "row 1")
        [{'role': 'user', 'content': '1+1?'}]
    """
    if "prompt" in row:
        messages(row["prompt"], role="user", name=f"{where}: prompt")
        return row["prompt"]
    if "messages" not in row:
        raise InputError(
            f'{where}: must have "prompt", or "messages" as RLVR has; has '
            f"{one_line(', '.join(map(repr, row)), 120) or 'nothing'}"
        )
    said = messages(row["messages"], role="user", name=f"{where}: messages")
    asked = max((i for i, one in enumerate(said) if one["role"] == "user"), default=None)
    if asked is None:
        raise InputError(f"{where}: messages must have at least one of role 'user'")
    return said[: asked + 1]


def _decoded(lines: Iterable[bytes], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        where = f"{name}, line {number}"
        try:
            row = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InputError(f"{where}: is not JSON: {one_line(error, 200)}") from error
        if not isinstance(row, dict):
            raise InputError(f'{where}: must be an object with "prompt"')
        yield where, row


#: Named formats; the last two are the paper's (appendix B.3, B.4).
FORMATS = {
    "plain": "{prompt}",
    "safety-alignment": "BEGINNING OF CONVERSATION: USER: {prompt} ASSISTANT:",
    "helpful-assistants": "\n\nHuman: {prompt}\n\nAssistant:",
}


@dataclass(frozen=True)
class PromptFormat:
    """The format of prompts and their accepted lengths.

    Args:
        form: "chat" for the tokenizer's chat template; "plain", "safety-alignment",
            "helpful-assistants"; or a template with {prompt} in it.
        system: the system prompt, for "chat" only.
        shortest, longest: accepted numbers of tokens of a formatted prompt; 8 and 512 in the
            paper for Helpful Assistants.
        others: "refuse" or "drop" prompts of other lengths.

    Raises:
        InputError: a template without {prompt}; a system without "chat".
    """

    form: str = "plain"
    system: str | None = None
    shortest: int = 1
    longest: int | None = None
    others: str = "refuse"

    def __post_init__(self) -> None:
        if self.form != "chat" and self.form not in FORMATS and "{prompt}" not in self.form:
            raise InputError(
                f"format = {self.form!r}: must be 'chat', {', '.join(map(repr, FORMATS))} or a "
                "template with {prompt}"
            )
        if self.system is not None and self.form != "chat":
            raise InputError(f"system = {self.system!r}: requires format = 'chat'")
        check_count(self.shortest, name="shortest", least=1)
        if self.longest is not None:
            check_count(self.longest, name="longest", least=self.shortest)
        if self.others not in ("refuse", "drop"):
            raise InputError(f"others = {self.others!r}: must be 'refuse' or 'drop'")

    def text(self, tokenizer: Any, prompt: Any, name: str = "prompt") -> str:
        """The formatted prompt.

        Raises:
            InputError: a conversation where the format is not "chat"; the tokenizer has no
                chat template, or it refuses the conversation.
        """
        if self.form != "chat":
            if not isinstance(prompt, str):
                raise InputError(f"{name}: is a conversation, which needs format 'chat'")
            return FORMATS.get(self.form, self.form).replace("{prompt}", prompt)
        if not getattr(tokenizer, "chat_template", None):
            raise InputError("format = 'chat': the tokenizer has no chat template")
        said = messages(prompt, role="user", name=name)
        if self.system is not None:
            said = [{"role": "system", "content": self.system}, *said]
        try:
            return str(
                tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
            )
        except Exception as error:
            raise InputError(
                f"{name}: the chat template refuses it: {error_reason(error)}"
            ) from error

    def tokens(self, tokenizer: Any, prompt: Any, name: str = "prompt") -> list[int]:
        """The prompt's tokens, with leading special tokens once, and no end-of-text token."""
        text = self.text(tokenizer, prompt, name)
        begins = getattr(tokenizer, "bos_token", None)
        # Chat templates, and possibly others, include the special tokens.
        written = self.form == "chat" or (begins is not None and text.startswith(begins))
        ids = list(tokenizer(text, add_special_tokens=not written, verbose=False)["input_ids"])
        if written:
            return ids
        # Remove an end token that the tokenizer appends: it would end the response.
        bare = len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        while len(ids) > max(1, bare) and ids[-1] == tokenizer.eos_token_id:
            ids.pop()
        return ids


@dataclass(frozen=True)
class Encoded:
    """Encoded prompts of accepted lengths.

    Attributes:
        tokens: of each accepted prompt.
        kept: their indices among all prompts.
        dropped: numbers and lengths of the others.
    """

    tokens: tuple[tuple[int, ...], ...]
    kept: tuple[int, ...]
    dropped: tuple[tuple[int, int], ...]


def encode_prompts(
    tokenizer: Any, prompts: Sequence[Any], form: PromptFormat, *, room: int | None = None
) -> Encoded:
    """Encode all prompts; refuse or drop those of other lengths.

    Args:
        tokenizer: the model's.
        prompts: strings, or conversations for format "chat".
        form: the format and the accepted lengths.
        room: maximum tokens of a prompt and its response: a prompt must be shorter.
            ``None`` is no limit.

    Raises:
        InputError: a prompt without tokens; a length that is not accepted, unless dropped;
            no prompt left.
    """
    found, kept, dropped = [], [], []
    most = None if room is None else room - 1
    if form.longest is not None:
        most = form.longest if most is None else min(form.longest, most)
    for number, prompt in enumerate(prompts):
        ids = form.tokens(tokenizer, prompt, f"prompt {number}")
        if not ids:
            raise InputError(f"prompt {number} has no tokens: {shown(prompt)}")
        if len(ids) < form.shortest or (most is not None and len(ids) > most):
            dropped.append((number, len(ids)))
        else:
            found.append(tuple(ids))
            kept.append(number)
    if dropped and (form.others == "refuse" or not kept):
        listed = ", ".join(f"{number} has {length}" for number, length in dropped[:8])
        rest = f" and {len(dropped) - 8} more" if len(dropped) > 8 else ""
        accepted = f"at least {form.shortest}" if most is None else f"{form.shortest} to {most}"
        raise InputError(f"prompts: must have {accepted} tokens; prompt {listed}{rest}")
    return Encoded(tuple(found), tuple(kept), tuple(dropped))
