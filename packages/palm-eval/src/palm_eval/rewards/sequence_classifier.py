"""A loaded sequence classifier: encode texts, score them in batches."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification

from palm_core import InputError
from palm_core.plugin import one_line
from palm_eval.lm.sources import cannot_load, load_tokenizer

_log = logging.getLogger("palm_eval.rewards")

# tokenizers encode "no limit" as a number near 1e30
_NO_LIMIT = 10**9


class Model:
    """Tokenizer and classifier for the settings of :func:`~palm_eval.rewards.classifier`."""

    def __init__(self, settings: dict[str, Any], device: str | None) -> None:
        self._settings = settings
        self._source = source = settings["model"]
        self._tokenizer = load_tokenizer(source, settings["revision"])
        if settings["input"] == "chat" and not getattr(self._tokenizer, "chat_template", None):
            raise InputError(
                f"input = 'chat': the tokenizer of {one_line(source, 200)} has no chat template, "
                "must be 'pair', 'reply' or 'template'"
            )
        self._tokenizer.truncation_side = settings["truncate"]
        self._device = _device(device)
        self._model = self._load().to(self._device).eval()
        self._label = self._index()
        self._longest = self._limit()

    def encode(self, texts: list[Any], seconds: list[str] | None) -> list[dict[str, list[int]]]:
        """The tokens of each text, conversation or pair, truncated to the maximum length."""
        if self._settings["input"] == "chat":
            rows = [
                dict(self._tokenizer.apply_chat_template(text, tokenize=True, return_dict=True))
                for text in texts
            ]
            cut = slice(-self._longest, None)
            if self._settings["truncate"] == "right":
                cut = slice(self._longest)
            self._tell(sum(len(row["input_ids"]) > self._longest for row in rows), len(rows))
            encoded = [{key: list(row[key])[cut] for key in row} for row in rows]
        else:
            full = self._tokenizer(texts, seconds, verbose=False)["input_ids"]
            self._tell(sum(len(row) > self._longest for row in full), len(full))
            batch = self._tokenizer(
                texts, seconds, truncation=True, max_length=self._longest, verbose=False
            )
            encoded = [{key: batch[key][row] for key in batch} for row in range(len(texts))]
        for index, row in enumerate(encoded):
            if not row["input_ids"]:
                raise InputError(
                    f"completion {index}: nothing is left of it as tokens; a classifier needs one"
                )
        return encoded

    def scores(self, rows: list[dict[str, list[int]]], batch_size: int) -> list[float]:
        """One number per row, in the order given."""
        order = sorted(range(len(rows)), key=lambda row: -len(rows[row]["input_ids"]))
        found = [math.nan] * len(rows)
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            for row, value in zip(chosen, self._batch([rows[i] for i in chosen]), strict=True):
                found[row] = value
        return found

    @torch.inference_mode()
    def _batch(self, rows: list[dict[str, list[int]]]) -> list[float]:
        width = max(len(row["input_ids"]) for row in rows)
        fill = self._filler(rows)
        tensors = {}
        for key in rows[0]:
            if key not in ("input_ids", "attention_mask", "token_type_ids"):
                continue
            pad = fill if key == "input_ids" else 0
            tensors[key] = torch.tensor(
                [row[key] + [pad] * (width - len(row[key])) for row in rows]
            )
        tensors["attention_mask"] = torch.tensor(
            [[1] * len(row["input_ids"]) + [0] * (width - len(row["input_ids"])) for row in rows]
        )
        inputs = {key: tensor.to(self._device) for key, tensor in tensors.items()}
        logits = self._model(**inputs).logits.float()
        if self._settings["activation"] == "sigmoid":
            logits = logits.sigmoid()
        elif self._settings["activation"] == "softmax":
            logits = logits.softmax(dim=-1)
        return [float(value) for value in self._settings["sign"] * logits[:, self._label].cpu()]

    def _filler(self, rows: list[dict[str, list[int]]]) -> int:
        """A token to pad with that no row ends in.

        Decoders read their score at the last token that is not the padding token: if a text
        itself ends in that token (often the end-of-sequence token), they would read it one
        token early, and only in models configured with a padding token.
        """
        last = {row["input_ids"][-1] for row in rows}
        fill: int | None = self._tokenizer.pad_token_id
        if fill is None or fill in last:
            fill = next(token for token in range(len(last) + 1) if token not in last)
        self._model.config.pad_token_id = fill
        self._model.config.get_text_config().pad_token_id = fill
        return fill

    def _load(self) -> Any:
        settings, head = self._settings, self._settings["head"]
        options: dict[str, Any] = {"dtype": settings["dtype"], "revision": settings["revision"]}
        if head is not None:
            options["key_mapping"] = {f"^{head}\\.": "score."}
            options["num_labels"] = 1
        try:
            model, info = AutoModelForSequenceClassification.from_pretrained(
                self._source, output_loading_info=True, **options
            )
            if head is not None and "score.bias" in info["unexpected_keys"]:
                model, info = _with_bias(type(model)).from_pretrained(
                    self._source, output_loading_info=True, **options
                )
        except Exception as error:
            raise cannot_load("model", self._source, error) from error
        wrong = sorted(info["missing_keys"]) + sorted(map(str, info["mismatched_keys"]))
        # A head's bias without a parameter in the model would be dropped silently.
        wrong += sorted(key for key in info["unexpected_keys"] if _of_head(key, head))
        if wrong:
            raise InputError(
                f"model = {one_line(repr(self._source), 200)}: must be a trained sequence "
                f"classifier, but weights of {type(model).__name__} are missing or unexpected: "
                f"{one_line(', '.join(wrong), 200)}; option 'head' sets the name of the last layer"
            )
        return model

    def _index(self) -> int:
        count, label = int(self._model.config.num_labels), self._settings["label"]
        names = {str(name): int(index) for index, name in self._model.config.id2label.items()}
        listed = f"0 to {count - 1} or one of {', '.join(map(repr, names))}"
        if label is None:
            if count != 1:
                raise InputError(f"label: missing, the model has {count} logits, must be {listed}")
            return 0
        index = names.get(label, -1) if isinstance(label, str) else int(label)
        if not 0 <= index < count:
            raise InputError(f"label = {label!r}: must be {one_line(listed, 300)}")
        return index

    def _limit(self) -> int:
        positions = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        known = [self._tokenizer.model_max_length, positions]
        most = min((int(n) for n in known if n is not None and n < _NO_LIMIT), default=_NO_LIMIT)
        asked = self._settings["max_length"]
        if asked is not None and positions is not None and asked > positions:
            raise InputError(f"max_length = {asked}: the model takes at most {positions} tokens")
        return most if asked is None else int(asked)

    def _tell(self, cut: int, total: int) -> None:
        if cut:
            _log.warning(
                "%s: %d of %d texts are longer than %d tokens and lose their %s end",
                Path(self._source).name, cut, total, self._longest, self._settings["truncate"],
            )  # fmt: skip


def _with_bias(model_class: Any) -> Any:
    """The model class with a bias in its last layer, which transformers lacks."""

    def __init__(self: Any, config: Any) -> None:  # noqa: N807  a method, below
        model_class.__init__(self, config)
        self.score = torch.nn.Linear(self.score.in_features, self.score.out_features, bias=True)

    return type(model_class.__name__, (model_class,), {"__init__": __init__})


def _of_head(key: str, head: str | None) -> bool:
    names = {"score", "classifier", "classification_head", "v_head", "score_head", head}
    return key.partition(".")[0] in names


def _device(device: str | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except Exception as error:
        raise InputError(
            f"device = {device!r}: cannot be used: {str(error).splitlines()[0]}"
        ) from error
