"""The text of prompts and completions, which TRL gives as strings or as conversations.

A conversation is a list of messages ``{"role": …, "content": …}``; the content is a
string or a list of parts, of which those of type "text" count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from palm_core import InputError
from palm_core.plugin import one_line

#: A string, or a conversation.
Text = str | Sequence[Mapping[str, Any]]


def shown(prompt: object) -> str:
    """The first 60 characters of a prompt, quoted, for an error message."""
    try:
        text = prompt_text(prompt)
    except InputError:
        text = str(prompt)
    return repr(one_line(text[:60] + (" …" if len(text) > 60 else "")))


def messages(value: object, *, role: str, name: str) -> list[dict[str, str]]:
    """Return ``value`` as messages with plain contents; a string is one message of ``role``.

    Raises:
        InputError: ``value`` is neither a string nor a list of messages.
    """
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if not isinstance(value, Sequence) or isinstance(value, (bytes, bytearray)):
        raise InputError(f"{name} is of type {type(value).__name__}: {_ACCEPTED}")
    found = []
    for item in value:
        if not isinstance(item, Mapping) or not isinstance(item.get("role"), str):
            raise InputError(f"{name} has a message {one_line(repr(item), 80)}: {_ACCEPTED}")
        found.append({"role": item["role"], "content": _content(item.get("content"), name)})
    return found


def completion_text(completion: object, name: str = "completion") -> str:
    """The assistant's text: the string, or its messages, one per line.

    Tool messages are left out; a message that only calls a tool is empty.
    """
    if isinstance(completion, str):
        return completion
    return "\n".join(
        message["content"]
        for message in messages(completion, role="assistant", name=name)
        if message["role"] == "assistant"
    )


def prompt_text(prompt: object, name: str = "prompt") -> str:
    """The user's text: the string, or a user's message after system messages.

    Raises:
        InputError: a conversation of several turns, which is not a single text: use a
            model's chat template.
    """
    if isinstance(prompt, str):
        return prompt
    found = messages(prompt, role="user", name=name)
    if [message["role"] for message in found if message["role"] != "system"] != ["user"]:
        roles = ", ".join(message["role"] for message in found) or "no message"
        raise InputError(
            f"{name} is a conversation of {one_line(roles, 80)}: must be a string or one user "
            "message for this reward; a classifier with input='chat' takes conversations"
        )
    return "\n\n".join(message["content"] for message in found)


_ACCEPTED = "must be a string or a list of messages {'role': …, 'content': …}"


def _content(content: object, name: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence) and all(isinstance(part, Mapping) for part in content):
        parts = [part.get("text") for part in content if part.get("type") == "text"]
        if all(isinstance(part, str) for part in parts):
            return "".join(parts)
    raise InputError(
        f"{name} has a message with content {one_line(repr(content), 80)}: {_ACCEPTED}"
    )
