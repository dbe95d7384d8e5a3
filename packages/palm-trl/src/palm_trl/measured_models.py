"""A policy and the model it was trained from, loaded to be measured."""

from __future__ import annotations

import warnings
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transformers import GenerationConfig

from palm_core.errors import InputError
from palm_core.text import reason
from palm_eval.language.causal import (
    device_of,
    dtype_of,
    end_tokens,
    load_causal,
    load_tokenizer,
)
from palm_eval.language.memory import check_memory
from palm_eval.language.sources import Source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    import torch

    from palm_trl.settings import GrpoSettings


@dataclass(frozen=True)
class Base:
    """π_ref, and what goes with it.

    Attributes:
        model: of transformers, on ``device``; it generates by nothing but its logits.
        tokenizer: its.
        ends: the tokens that end a response.
        device: where it is.
    """

    model: Any
    tokenizer: Any
    ends: frozenset[int]
    device: torch.device

    @property
    def context(self) -> int | None:
        """The most tokens that it can read, where it says so."""
        found = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return found if isinstance(found, int) and found > 0 else None


class Policy:
    """π as it is to be measured.

    Attributes:
        model: its forward pass is π's logits.
        reference: the model whose logits are π_ref's inside :meth:`as_reference`; ``None``
            where π is π_ref.
    """

    def __init__(self, model: Any, reference: Any, without: Any = nullcontext) -> None:
        self.model, self.reference, self._without = model, reference, without

    def as_reference(self) -> AbstractContextManager[object]:
        """Switches the adapter off, where there is one."""
        found: AbstractContextManager[object] = self._without()
        return found


def load_base(settings: GrpoSettings) -> Base:
    """Load the oracle's model and tokenizer.

    Raises:
        InputError: one of them cannot be loaded.
        WorkError: not enough memory.
    """
    device = device_of(settings.device)
    tokenizer = load_tokenizer(f"tokenizer of {settings.model!r}", settings.tokenizer_source)
    model = load_causal(
        f"model = {settings.model!r}", settings.source, device, dtype_of(settings.dtype)
    )
    ends = end_tokens(tokenizer, [model])
    return Base(_plain(model), tokenizer, ends, device)


@contextmanager
def loaded_policy(settings: GrpoSettings, base: Base, folder: Path | None) -> Iterator[Policy]:
    """π of ``folder`` on top of ``base``, which afterwards is as it was.

    Args:
        settings: say what types are loaded as.
        base: π_ref.
        folder: an adapter's or a whole model's; ``None`` for π_ref itself.

    Raises:
        InputError: there is neither in ``folder``, or it does not fit.
        WorkError: not enough memory.
    """
    if folder is None:
        yield Policy(base.model, None)
    elif (folder / "adapter_config.json").is_file():
        adapted = _with_adapter(base.model, folder)
        try:
            yield Policy(base.model, base.model, adapted.disable_adapter)
        finally:
            adapted.unload()
    elif (folder / "config.json").is_file():
        place = f"policy {str(folder)!r}"
        model = _plain(
            load_causal(place, Source(str(folder)), base.device, dtype_of(settings.dtype))
        )
        yield Policy(model, base.model)
    else:
        raise InputError(
            f"policy {str(folder)!r}: must be a folder with adapter_config.json or config.json"
        )


def _plain(model: Any) -> Any:
    # transformers fills what a call leaves open from here: penalties, top-k of its makers.
    settings: Any = GenerationConfig  # its initializer has no types
    model.generation_config = settings()
    return model.eval()


def _with_adapter(model: Any, folder: Path) -> Any:
    from peft import PeftModel

    try:
        with warnings.catch_warnings():
            # peft asks transformers by a name that is going to change: nothing for users
            warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
            return PeftModel.from_pretrained(model, str(folder)).eval()
    except Exception as error:
        check_memory(f"policy {str(folder)!r}", error)
        raise InputError(
            f"policy {str(folder)!r}: must be an adapter of the oracle's model: {reason(error)}"
        ) from error
