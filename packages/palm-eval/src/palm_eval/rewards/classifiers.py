r"""Reward functions from Hugging Face sequence classifiers (``palm-eval[hf]``), and presets.

The presets are the settings of the paper's reward models (section 4 and B.2, B.3). Reading
them downloads nothing; ``classifier(preset="beaver-cost")`` uses one, and further options
override the preset's.

- ``skywork``: RLVR-GSM's helpfulness. The model's own chat template; one logit.
- ``beaver-reward``, ``beaver-cost``: Safety Alignment's "better" and "safe". The template
  is that of safe-rlhf, and the head is stored as ``score_head``. The cost is negated: a
  safe answer has a low cost.
- ``helpful``, ``harmless``: Ray2333's models for Helpful Assistants, which score the pair
  (question, reply). The question is the prompt unchanged: as in Anthropic's HH-RLHF it
  reads "\n\nHuman: …\n\nAssistant:". For plain questions, set ``template`` to
  "\n\nHuman: {prompt}\n\nAssistant:".
- ``humor``: scores the reply only; the second of two logits.
"""

from __future__ import annotations

import re
import threading
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from palm_core import InputError
from palm_core.plugin import check_choice, check_count, one_line
from palm_eval.lm.sources import require_hf, source_identity
from palm_eval.rewards.base import Reward, check_sign, texts_of
from palm_eval.rewards.conversations import messages, prompt_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from palm_eval.rewards.sequence_classifier import Model

_BEAVER = {
    "input": "template",
    "template": "BEGINNING OF CONVERSATION: USER: {prompt} ASSISTANT:{completion}",
    "head": "score_head",
}

#: Options of :func:`~palm_eval.rewards.classifier`, by the preset's name.
PRESETS: Final = MappingProxyType[str, dict[str, Any]](
    {
        "skywork": {"model": "Skywork/Skywork-Reward-Llama-3.1-8B", "input": "chat"},
        "beaver-reward": {"model": "PKU-Alignment/beaver-7b-v1.0-reward", **_BEAVER},
        "beaver-cost": {"model": "PKU-Alignment/beaver-7b-v1.0-cost", **_BEAVER, "sign": -1},
        "helpful": {"model": "Ray2333/gpt2-large-helpful-reward_model", "input": "pair"},
        "harmless": {"model": "Ray2333/gpt2-large-harmless-reward_model", "input": "pair"},
        "humor": {"model": "mohameddhiab/humor-no-humor", "input": "reply", "label": 1},
    }
)
_INPUTS = ("chat", "pair", "reply", "template")
_ACTIVATIONS = ("none", "sigmoid", "softmax")
_DTYPES = ("auto", "float32", "bfloat16", "float16")
_DEFAULTS: dict[str, Any] = {
    "model": None,
    "input": "chat",
    "template": None,
    "label": None,
    "activation": "none",
    "sign": 1,
    "head": None,
    "revision": None,
    "dtype": "auto",
    "max_length": None,
    "truncate": "left",
}
_FIELD = re.compile(r"\{(prompt|completion)\}")


def classifier(
    *,
    preset: str | None = None,
    model: str | None = None,
    input: str | None = None,  # noqa: A002 the field's word
    template: str | None = None,
    label: int | str | None = None,
    activation: str | None = None,
    sign: int | None = None,
    head: str | None = None,
    revision: str | None = None,
    dtype: str | None = None,
    device: str | None = None,
    batch_size: int = 16,
    max_length: int | None = None,
    truncate: str | None = None,
    name: str | None = None,
) -> Reward:
    """r(x, y) = ±a(z(x, y))_l: logit l of a sequence classifier, after an activation a.

    The model is loaded when the first completion is scored. Completions are sorted by
    length and padded on the right within a batch, so that a batch changes scores by
    rounding only. A model or tokenizer without a padding token needs none.

    Args:
        preset: settings of a reward model of the paper, see
            :mod:`palm_eval.rewards.classifiers`; other options override it.
        model: name on the Hugging Face hub or folder. Code that comes with a model is
            never run.
        input: "chat" (default): the tokenizer's chat template; "pair": prompt and reply as
            the two texts of a pair; "reply": the reply alone; "template": one text.
        template: for "template" the text with ``{prompt}`` and ``{completion}``; for "pair"
            the template of the first text, with ``{prompt}``.
        label: which logit, by index or by its name in the model's configuration; ``None``
            where there is but one.
        activation: "none" (default), "sigmoid" or "softmax" over the logits.
        sign: -1 for a cost.
        head: the name of the last layer in the model's weights, if not ``score`` as in
            transformers: "score_head" for the beaver models.
        revision: a branch, tag or commit of the hub.
        dtype: "auto" (default, as stored), "float32", "bfloat16" or "float16".
        device: "cpu", "cuda:0" …; ``None``: "cuda" where there is one, else "cpu".
        batch_size: completions at a time.
        max_length: in tokens; ``None``: what the model can take. Longer ones are cut.
        truncate: which side is cut off, "left" (default: the reply's end stays) or "right".
        name: of the function; ``None`` derives it.

    Raises:
        InputError: an option is wrong or PyTorch or transformers is missing; on a call, the
            model cannot be loaded, has weights missing (a head that was never trained
            gives random rewards) or no such label.
    """
    given = {
        "model": model,
        "input": input,
        "template": template,
        "label": label,
        "activation": activation,
        "sign": sign,
        "head": head,
        "revision": revision,
        "dtype": dtype,
        "max_length": max_length,
        "truncate": truncate,
    }
    settings = dict(_DEFAULTS)
    if preset is not None:
        settings |= PRESETS[check_choice(preset, tuple(PRESETS), name="preset")]
    settings |= {key: value for key, value in given.items() if value is not None}
    _check(settings)
    size = check_count(batch_size, name="batch_size", least=1)
    if device is not None and not isinstance(device, str):
        raise InputError(f"device = {device!r}: must be a text such as 'cpu' or 'cuda:0'")
    require_hf("a classifier")
    return _Classifier(settings, device, size, name or preset)


def _check(settings: dict[str, Any]) -> None:
    for option in ("model", "head", "revision", "template"):
        value = settings[option]
        if value is not None and (not isinstance(value, str) or not value):
            raise InputError(f"{option} = {one_line(repr(value), 80)}: must be a text")
    if settings["model"] is None:
        raise InputError("model: missing, must be a name or a folder (or give a preset)")
    check_choice(settings["input"], _INPUTS, name="input")
    check_choice(settings["activation"], _ACTIVATIONS, name="activation")
    check_choice(settings["dtype"], _DTYPES, name="dtype")
    check_choice(settings["truncate"], ("left", "right"), name="truncate")
    settings["sign"] = check_sign(settings["sign"])
    if settings["max_length"] is not None:
        check_count(settings["max_length"], name="max_length", least=1)
    label = settings["label"]
    if label is not None and not isinstance(label, str):
        check_count(label, name="label", least=0)
    fields = {
        "template": {"completion"},  # the prompt is optional
        "pair": {"prompt"},
    }.get(settings["input"])
    template = settings["template"]
    if fields is None and template is not None:
        raise InputError(
            f"template: requires input = 'template' or 'pair', input is {settings['input']!r}"
        )
    if settings["input"] == "template" and template is None:
        raise InputError("template: missing, input = 'template' requires it")
    if fields is not None and template is not None:
        found = set(_FIELD.findall(template))
        if not fields <= found or (settings["input"] == "pair" and found != {"prompt"}):
            accepted = (
                "{completion} and, where wanted, {prompt}"
                if settings["input"] == "template"
                else "{prompt}, and not {completion}"
            )
            raise InputError(f"template = {one_line(repr(template), 80)}: must have {accepted}")


class _Classifier(Reward):
    def __init__(
        self, settings: dict[str, Any], device: str | None, batch_size: int, name: str | None
    ) -> None:
        super().__init__("classifier", settings, {"model": None}, name)
        self._settings, self._device, self._batch_size = settings, device, batch_size
        self.models = (settings["model"],)
        self._lock = threading.Lock()
        self._model: Model | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Each worker process loads its own.
        return {key: item for key, item in self.__dict__.items() if key not in ("_lock", "_model")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock(), _model=None)

    def _sources(self) -> dict[str, Any]:
        return {"model": source_identity(self._settings["model"], self._settings["revision"])}

    def _score(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        columns: Mapping[str, Sequence[Any]],  # noqa: ARG002  every reward is called alike
    ) -> list[float]:
        if not completions:
            return []
        with self._lock:  # one batch at a time, on one loaded model
            if self._model is None:
                from palm_eval.rewards.sequence_classifier import Model

                self._model = Model(self._settings, self._device)
            ids = self._model.encode(*self._texts(prompts, completions))
            return self._model.scores(ids, self._batch_size)

    def _texts(
        self, prompts: Sequence[Any], completions: Sequence[Any]
    ) -> tuple[list[Any], list[str] | None]:
        """The texts or conversations to encode, and the second texts of pairs."""
        kind, template = self._settings["input"], self._settings["template"]
        if kind == "chat":
            return [
                messages(prompt, role="user", name=f"prompt {index}")
                + messages(completion, role="assistant", name=f"completion {index}")
                for index, (prompt, completion) in enumerate(zip(prompts, completions, strict=True))
            ], None
        replies = texts_of(completions)
        if kind == "reply":
            return replies, None
        asked = [prompt_text(prompt, f"prompt {index}") for index, prompt in enumerate(prompts)]
        if kind == "pair":
            return [_filled(template or "{prompt}", prompt, "") for prompt in asked], replies
        return [
            _filled(template, prompt, reply) for prompt, reply in zip(asked, replies, strict=True)
        ], None


def _filled(template: str, prompt: str, completion: str) -> str:
    """Fill in the fields of ``template``; braces in the texts are left alone."""
    values = {"prompt": prompt, "completion": completion}
    return _FIELD.sub(lambda found: values[found[1]], template)
