"""The oracle `soup`: one model with averaged parameters for each weight vector.

Rewarded soups (Ramé et al., NeurIPS 2023): π_w has the parameters Σ_i w_i·θ_i, where expert
θ_i was fine-tuned for reward i and all from the same initialisation. Where :mod:`mod
<palm_mod.mod>` runs d models, a soup is a single model that can be deployed.

Models are truncated to the common vocabulary, as for ``mod``: some are padded to round
numbers, and not all to the same one.

Of LoRA adapters the *products* are averaged: ΔW = Σ_i w_i·s_i·B_i·A_i, the same as averaging
merged models. It is stored exactly as one adapter whose rank is the sum of theirs, with
concatenated factors (peft's combination "cat"). Averaging A and B separately ("linear") would
give another model, with untrained cross terms B_i·A_j.
"""

from __future__ import annotations

import copy
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from palm_core import InputError, WorkError
from palm_core.plugin import one_line
from palm_mod.language_oracle import LanguageOracle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from palm_core import Policy
    from palm_mod.decoding import Loaded
    from palm_mod.experts import Experts
    from palm_mod.prefix_tree import Counts

_SOUP = "soup"


@dataclass(eq=False)
class SoupOracle(LanguageOracle):
    """Averages d experts into one model; options of :class:`~palm_mod.options.LanguageSettings`.

    Args:
        save_models: write each mixed model beside its responses by save_pretrained (of
            adapters: one adapter), ready to be deployed. Full models take disk space for
            each weight vector.

    Raises:
        InputError: an option with a value that is not accepted, or without one that it requires.

    Attributes:
        counts: the cost of the last decoding; ``None`` before.
    """

    kind: ClassVar[str] = "soup"
    #: Weights share no work, so workers may take them one by one.
    batch: ClassVar[int] = 1

    _: KW_ONLY
    save_models: bool = False
    _mixer: Any = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.save_models, bool):
            raise InputError(f"save_models = {self.save_models!r}: must be true or false")
        self.counts: Counts | None = None
        super().__post_init__()

    def __getstate__(self) -> Mapping[str, Any]:
        """Pickle without loaded models: each worker loads its own."""
        return {**super().__getstate__(), "_mixer": None}

    def load(self) -> Loaded:
        """Load the experts, once.

        Raises:
            InputError: experts or tokenizers that cannot be loaded or do not match.
            WorkError: out of memory.
        """
        if self._loaded is None:
            from palm_mod.decoding import prepare
            from palm_mod.experts import load_experts

            experts = load_experts(**self.sources(), device=self.device, dtype=self.dtype)
            self._mixer = _Full(experts) if self.adapters is None else _Adapters(experts)
            self._loaded = prepare(self, experts)
        return self._loaded

    def solve(self, weights: NDArray[np.float64]) -> Iterator[Policy]:
        """Yield one policy per row of ``weights`` (k, d), in order, as soon as it is decoded."""
        from palm_mod.decoding import decode
        from palm_mod.mixing import Mixing

        loaded = self.load()
        for row in np.array(weights, dtype=np.float64):
            soup = self._mixer.mix(row)
            found, self.counts = decode(loaded, soup, np.ones((1, 1)), Mixing())
            (responses,) = found
            loaded.answering.score(
                [
                    (prompt, one.tokens)
                    for prompt, several in enumerate(responses)
                    for one in several
                ]
            )
            save: Callable[[Path], None] | None = self._mixer.save if self.save_models else None
            yield loaded.answering.policy(
                row, responses, kind=self.kind, measured=self.measured, model=save
            )


class _Full:
    """Averages full models into an additional model, in place; d + 1 models are in memory."""

    def __init__(self, experts: Experts) -> None:
        from palm_mod.experts import cut_vocabulary, is_tied

        d = experts.n_experts
        models = [model.inner for model in experts.models]
        for model in models[:d]:
            cut_vocabulary(model, experts.vocabulary)
        self._states = [dict(model.state_dict()) for model in models[:d]]
        for name, state in zip(experts.names[1:d], self._states[1:], strict=True):
            _check_same(self._states[0], state, experts.names[0], name)
        self._experts = experts
        # The average of tied and untied heads is not tied.
        self._mixed = copy.deepcopy(min(models[:d], key=is_tied))
        self._soup = _around(experts, [self._mixed, *models[d:]])

    def mix(self, weights: NDArray[np.float64]) -> Experts:
        """The model for ``weights`` (d,); the next call overwrites it."""
        import torch

        with torch.no_grad():
            for name, kept in self._mixed.state_dict().items():
                if kept.is_floating_point():
                    kept.copy_(_average([state[name] for state in self._states], weights))
        return self._soup

    def save(self, folder: Path) -> None:
        """Write the model of the last call."""
        self._mixed.save_pretrained(folder)
        self._experts.tokenizer.save_pretrained(folder)


class _Adapters:
    """Averages adapters of one base model into an additional adapter."""

    def __init__(self, experts: Experts) -> None:
        from palm_mod.causal_model import WITHOUT

        self._experts = experts
        (model,) = experts.models
        names = tuple(model.adapters or ())
        self._model, self._parts = model.model, names[: experts.n_experts]
        self._runs = [_SOUP, *([WITHOUT] if experts.has_reference else [])]

    def mix(self, weights: NDArray[np.float64]) -> Experts:
        """The base model with the adapter for ``weights`` (d,); the next call replaces it."""
        from palm_mod.causal_model import CausalModel

        model, experts = self._model, self._experts
        if _SOUP in model.peft_config:
            model.delete_adapter(_SOUP)
        # some versions of peft refuse a weight of 0, so such experts are left out
        used = [(name, float(w)) for name, w in zip(self._parts, weights, strict=True) if w > 0]
        model.add_weighted_adapter(
            [name for name, _ in used], [w for _, w in used], _SOUP, combination_type="cat"
        )
        soup = CausalModel(model, experts.models[0].name, self._runs)
        return _of(experts, [soup])

    def save(self, folder: Path) -> None:
        """Write the adapter of the last call."""
        self._model.save_pretrained(folder, selected_adapters=[_SOUP])
        self._experts.tokenizer.save_pretrained(folder)


def _around(experts: Experts, models: Sequence[Any]) -> Experts:
    from palm_mod.causal_model import CausalModel

    return _of(experts, [CausalModel(model, _SOUP) for model in models])


def _of(experts: Experts, models: Sequence[Any]) -> Experts:
    """One expert, with the reference (if any) and the tokenizer of ``experts``."""
    from palm_mod.experts import Experts

    return Experts(
        models,
        [_SOUP, *experts.names[experts.n_experts :]],
        reference=experts.has_reference,
        tokenizer=experts.tokenizer,
        vocabulary=experts.vocabulary,
        end_tokens=experts.end_tokens,
    )


def _average(tensors: Sequence[Any], weights: NDArray[np.float64]) -> Any:
    """Σ_i w_i·θ_i, computed in float32 or better."""
    import torch

    kind = torch.promote_types(tensors[0].dtype, torch.float32)
    total = torch.zeros_like(tensors[0], dtype=kind)
    for tensor, weight in zip(tensors, weights.tolist(), strict=True):
        total.add_(tensor.to(total.device, kind), alpha=weight)
    return total


def _check_same(mine: Mapping[str, Any], other: Mapping[str, Any], first: str, second: str) -> None:
    """Refuse models whose parameters differ in name or shape; integer buffers must be equal."""
    for name in sorted({*mine, *other}):
        if name not in mine or name not in other:
            missing = second if name in mine else first
            raise InputError(
                f"{second}: cannot be averaged with {first}: {missing} has no parameter "
                f"{one_line(repr(name), 120)}; must be of the same architecture"
            )
        if mine[name].shape != other[name].shape:
            raise InputError(
                f"{second}: cannot be averaged with {first}: {one_line(repr(name), 120)} has shape "
                f"{tuple(other[name].shape)} and {tuple(mine[name].shape)}; must be the same"
            )
        if not mine[name].is_floating_point() and not bool((mine[name] == other[name]).all()):
            raise WorkError(
                f"{second}: cannot be averaged with {first}: {one_line(repr(name), 120)} is not a "
                "floating-point number and differs (a quantised model?)"
            )
