"""From prompts to tokens: templates, chats, special tokens once, and prompts that are too long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from palm_core.errors import InputError
from palm_core.simplex import check_count
from palm_core.text import reason
from palm_eval.rewards.texts import messages, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The formats that have a name; the last two are the paper's (appendix B.3, B.4).
FORMATS = {
    "plain": "{prompt}",
    "safety-alignment": "BEGINNING OF CONVERSATION: USER: {prompt} ASSISTANT:",
    "helpful-assistants": "\n\nHuman: {prompt}\n\nAssistant:",
}


@dataclass(frozen=True)
class PromptFormat:
    """How a prompt is put to a model.

    Args:
        form: "chat" for the tokenizer's chat template; "plain", "safety-alignment",
            "helpful-assistants"; or a template with {prompt} in it.
        system: what the system says first, for "chat" only.
        shortest, longest: a prompt must have so many tokens, as it is put; the paper takes
            those of 8 to 512 for Helpful Assistants.
        others: "refuse" or "drop" prompts of another length.

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
            raise InputError(f"system = {self.system!r}: only format 'chat' has one")
        check_count(self.shortest, name="shortest", least=1)
        if self.longest is not None:
            check_count(self.longest, name="longest", least=self.shortest)
        if self.others not in ("refuse", "drop"):
            raise InputError(f"others = {self.others!r}: must be 'refuse' or 'drop'")

    def text(self, tokenizer: Any, prompt: Any, name: str = "prompt") -> str:
        """The prompt as the model reads it.

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
            raise InputError(f"{name}: the chat template refuses it: {reason(error)}") from error

    def tokens(self, tokenizer: Any, prompt: Any, name: str = "prompt") -> list[int]:
        """The prompt's tokens, with the special tokens in front once, and no end behind."""
        text = self.text(tokenizer, prompt, name)
        begins = getattr(tokenizer, "bos_token", None)
        # A chat template writes its special tokens itself; so may any other.
        written = self.form == "chat" or (begins is not None and text.startswith(begins))
        ids = list(tokenizer(text, add_special_tokens=not written, verbose=False)["input_ids"])
        if written:
            return ids
        # Tokenizers that close what they read, as for training, would end the answer.
        bare = len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        while len(ids) > max(1, bare) and ids[-1] == tokenizer.eos_token_id:
            ids.pop()
        return ids


@dataclass(frozen=True)
class Encoded:
    """Prompts as tokens: ``kept`` are the numbers of those that ``tokens`` has.

    Attributes:
        tokens: of each prompt that is kept.
        kept: their numbers among all prompts.
        dropped: numbers and lengths of the others.
    """

    tokens: tuple[tuple[int, ...], ...]
    kept: tuple[int, ...]
    dropped: tuple[tuple[int, int], ...]


def encode_prompts(
    tokenizer: Any, prompts: Sequence[Any], form: PromptFormat, *, room: int | None = None
) -> Encoded:
    """The tokens of all prompts whose lengths are accepted.

    Args:
        tokenizer: the model's.
        prompts: strings, or conversations for format "chat".
        form: how they are put, and which lengths are accepted.
        room: the most tokens of a prompt and its response, of the model or asked for: a
            prompt must be shorter. ``None`` is no limit.

    Raises:
        InputError: a prompt without tokens; lengths that are not accepted, where they are
            not to be dropped; no prompt left.
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
