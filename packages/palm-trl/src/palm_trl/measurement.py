"""Measurement of a policy: rewards, KL and length of every response; saved as JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from palm_core import InputError, Policy
from palm_core.plugin import one_line, read_bounded, weight_id, write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from palm_trl.options import GrpoSettings

    Array = NDArray[np.float64]


def policy_of(
    settings: GrpoSettings,
    weights: NDArray[np.float64],
    measured: Measurement,
    artifact: str | None,
    start: str | None,
) -> Policy:
    """The measured policy.

    Args:
        settings: for β and the kind of KL in f.
        weights: (d,) of its training.
        measured: its measurement on the evaluation prompts.
        artifact: its name in the run, or ``None``.
        start: the artifact from which its training started, or ``None``.
    """
    beta = float(settings.beta or 0.0)
    per_prompt_f = measured.prompt_regularizer(beta, settings.kl)
    return Policy(
        id=f"{settings.kind}-{weight_id(weights)}",
        weights=weights,
        rewards=measured.mean_rewards,
        regularizer=float(per_prompt_f.mean()),
        reward_errors=measured.reward_errors,
        prompt_rewards=measured.prompt_rewards,
        prompt_regularizer=per_prompt_f if beta > 0 else None,
        artifact=artifact,
        info={
            "oracle": settings.kind,
            "base": settings.model,
            "algorithm": settings.algorithm,
            "preset": settings.preset,
            "tuning": settings.tuning,
            "steps": settings.steps if start is None else settings.warm_steps or settings.steps,
            "start": start,
            "beta": beta,
            "temperature": settings.temperature,
            "new_tokens": settings.new_tokens,
            "format": settings.format,
            "system": settings.system,
            "dtype": settings.dtype,
            "trainer": settings.options,
            "regularizer": _regularizer_text(settings),
            "kl": measured.mean_kl,
            "kl_error": measured.kl_error,
            "kl_k1": measured.mean_kl_k1,
            "tokens": measured.mean_tokens,
            "cut_off": measured.truncation_rate,
            "accuracy": measured.accuracy,
        },
    )


def _regularizer_text(settings: GrpoSettings) -> str:
    if not settings.beta:
        return "0: beta is 0"
    per = "per token" if settings.kl == "token" else "of whole responses"
    return f"beta * KL {per}, over the whole vocabulary at each step of the responses drawn"


#: The largest file in bytes.
LARGEST_FILE = 1024 * 1024 * 1024
_FORMAT = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Measurement:
    """G responses y to each of n prompts x, drawn from π(·|x), in d objectives.

    The KL of π and π_ref on prompt x is estimated in two ways from the same responses,

        Σ_t KL(π(·|x, y_<t) ‖ π_ref(·|x, y_<t))   and   Σ_t log π(y_t|x, y_<t) − log π_ref(…),

    t over the response's tokens, including the end token. Both have the mean
    KL(π(·|x) ‖ π_ref(·|x)) of whole responses; the first, summed over the vocabulary, has a
    smaller variance (Rao and Blackwell), the second, k1, is a check of it. Prompts are the
    units of all standard errors: responses to one prompt are not independent.

    Args:
        objectives: d names.
        prompts: n indices of the prompts in the prompt set.
        texts: (n, G) the responses as text.
        rewards: (n, G, d).
        kl: (n, G) over the whole vocabulary, in nats, ≥ 0.
        kl_k1: (n, G) along the response, in nats.
        tokens: (n, G) ≥ 1, including the end token.
        ended: (n, G) whether it ended by itself.
        correct: (n, G) 1 if correct, else 0; ``None`` if no reward judges correctness.
        temperature: T of π and π_ref.
        new_tokens: maximum tokens of a response.
        seed: of sampling.

    Raises:
        InputError: inconsistent shapes, numbers that are not finite or out of range.
    """

    objectives: tuple[str, ...]
    prompts: tuple[int, ...]
    texts: tuple[tuple[str, ...], ...]
    rewards: Array
    kl: Array
    kl_k1: Array
    tokens: NDArray[np.int64]
    ended: NDArray[np.bool_]
    correct: Array | None = None
    temperature: float = 1.0
    new_tokens: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        n, d = len(self.prompts), len(self.objectives)
        samples = len(self.texts[0]) if self.texts else 0
        if not n or not samples or not d:
            raise InputError("must have at least one prompt, one response and one objective")
        if len(self.texts) != n or any(len(several) != samples for several in self.texts):
            raise InputError(f"texts: must be {samples} for each of {n} prompts")
        shapes = {"rewards": (n, samples, d), "correct": (n, samples)}
        for name in ("rewards", "kl", "kl_k1", "tokens", "ended", "correct"):
            values = getattr(self, name)
            wanted = shapes.get(name, (n, samples))
            if name == "correct" and values is None:
                continue
            if values.shape != wanted:
                raise InputError(f"{name}: must have shape {wanted}, has {values.shape}")
            if not np.isfinite(values).all():
                raise InputError(f"{name}: must be finite numbers")
        if (self.kl < 0).any():
            raise InputError(f"kl = {self.kl.min():g}: must be at least 0")
        if (self.tokens < 1).any():
            raise InputError(f"tokens = {self.tokens.min()}: must be at least 1")

    @property
    def prompt_rewards(self) -> Array:
        """(n, d) the mean over a prompt's responses."""
        found: Array = self.rewards.mean(axis=1)
        return found

    @property
    def mean_rewards(self) -> Array:
        """(d,) the mean over prompts."""
        found: Array = self.prompt_rewards.mean(axis=0)
        return found

    @property
    def reward_errors(self) -> Array | None:
        """(d,) standard errors of :attr:`mean_rewards`; ``None`` for a single prompt."""
        return _errors(self.prompt_rewards)

    def prompt_regularizer(self, beta: float, kind: str = "sequence") -> Array:
        """(n,) f per prompt, whose mean over prompts is f(π), in units of reward.

        Args:
            beta: β ≥ 0.
            kind: "sequence" for β·E[KL(y)], KL(y) the sum over the tokens of y; "token" for
                β·E[KL(y)/|y|]. That is the mean of ratios, which GRPO's loss subtracts: each
                response counts the same, long or short; and it is a plain mean, without the
                bias that a ratio of sums of G responses has.

        Raises:
            InputError: another kind.
        """
        if kind == "sequence":
            nats = self.kl
        elif kind == "token":
            nats = self.kl / self.tokens
        else:
            raise InputError(f"kl = {kind!r}: must be 'sequence' or 'token'")
        found: Array = beta * nats.mean(axis=1)
        return found

    @property
    def mean_kl(self) -> float:
        """KL(π ‖ π_ref) of whole responses in nats, over the whole vocabulary at each step."""
        return float(self.kl.mean())

    @property
    def kl_error(self) -> float | None:
        """Standard error of :attr:`mean_kl` over prompts; ``None`` for a single prompt."""
        return _error(self.kl)

    @property
    def mean_kl_token(self) -> float:
        """E[KL(y)/|y|] in nats per token."""
        return float((self.kl / self.tokens).mean())

    @property
    def mean_kl_k1(self) -> float:
        """The same KL as :attr:`mean_kl`, by k1."""
        return float(self.kl_k1.mean())

    @property
    def kl_k1_error(self) -> float | None:
        """Standard error of :attr:`mean_kl_k1` over prompts; ``None`` for a single prompt."""
        return _error(self.kl_k1)

    @property
    def kl_disagreement(self) -> float | None:
        """Difference of the two KL estimates, in standard errors of that difference.

        More than about 4 over many prompts is significant: the responses were then not
        sampled from the measured π. ``None`` for a single prompt.
        """
        difference = self.kl - self.kl_k1
        error = _error(difference)
        if error is None:
            return None
        mean = float(difference.mean())
        return mean / error if error else math.copysign(math.inf, mean) if mean else 0.0

    @property
    def truncation_rate(self) -> float:
        """The share of truncated responses."""
        return float(1.0 - self.ended.mean())

    @property
    def mean_tokens(self) -> float:
        """The mean length of a response, in tokens."""
        return float(self.tokens.mean())

    @property
    def accuracy(self) -> float | None:
        """The share of correct responses; ``None`` if no reward judges correctness."""
        return None if self.correct is None else float(self.correct.mean())

    @property
    def accuracy_error(self) -> float | None:
        """Standard error of :attr:`accuracy` over prompts; ``None`` for a single prompt."""
        return None if self.correct is None else _error(self.correct)

    def save(self, path: Path) -> None:
        """Write JSON atomically.

        Raises:
            WorkError: the file cannot be written.
        """
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name, value in plain.items():
            if isinstance(value, np.ndarray):
                plain[name] = value.tolist()
        write_atomically(path, msgspec.json.encode({"measurement": _FORMAT, **plain}) + b"\n")

    @classmethod
    def load(cls, path: Path) -> Measurement:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: no such file, or it is damaged; the message gives the reason.
        """
        data = read_bounded(path, LARGEST_FILE, kind="measurement")
        try:
            found = msgspec.json.decode(data, type=_Saved)
            return cls(
                **{
                    name: _array(name, getattr(found, name)) if name in _ARRAYS else value
                    for name in cls.__dataclass_fields__
                    for value in [getattr(found, name)]
                }
            )
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, InputError) as error:
            raise InputError(
                f"{one_line(path)}: is not a measurement: {one_line(error)}"
            ) from error


class _Saved(msgspec.Struct, forbid_unknown_fields=True):
    measurement: Literal[1]
    objectives: tuple[str, ...]
    prompts: tuple[int, ...]
    texts: tuple[tuple[str, ...], ...]
    rewards: list[list[list[float]]]
    kl: list[list[float]]
    kl_k1: list[list[float]]
    tokens: list[list[int]]
    ended: list[list[bool]]
    correct: list[list[float]] | None
    temperature: float
    new_tokens: int
    seed: int


_ARRAYS: dict[str, Any] = {
    "rewards": np.float64,
    "kl": np.float64,
    "kl_k1": np.float64,
    "tokens": np.int64,
    "ended": np.bool_,
    "correct": np.float64,
}


def _array(name: str, values: Any) -> Any:
    if values is None:
        return None
    try:
        return np.array(values, dtype=_ARRAYS[name])
    except (ValueError, OverflowError) as error:
        raise InputError(f"{name}: rows differ in length, or a number is too large") from error


def _errors(per_prompt: Array) -> Array | None:
    """(q,) standard errors of the means of (n, q), with n − 1 degrees of freedom."""
    n = len(per_prompt)
    if n < 2:
        return None
    found: Array = per_prompt.std(axis=0, ddof=1) / np.sqrt(n)
    return found


def _error(values: Array) -> float | None:
    """Standard error over prompts of the mean of (n, G)."""
    found = _errors(values.mean(axis=1, keepdims=True))
    return None if found is None else float(found[0])
