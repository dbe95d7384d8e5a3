"""The oracle `grpo`: a policy trained by reinforcement learning for each weight vector.

Paper, section 4 and appendix B.2. It trains π_w for

    J_w(π) = Σ_i w_i E[r_i] − β KL(π ‖ π_ref),    π_ref the model it starts from,

and then measures r and f = β·KL by itself, on prompts that are fixed for all policies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from palm_eval.lm.estimates import Sized, computing, downloads, gigabytes, judges_of, sized
from palm_trl.options import GrpoSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from palm_core import Policy

#: Operations for each parameter and token: forward and backward; forward alone.
_LEARN, _READ = 6.0, 2.0


def estimated(settings: GrpoSettings, calls: int | None) -> dict[str, str]:
    """What ``calls`` calls take, in words by what it is of.

    Args:
        settings: say what is trained and measured.
        calls: how many; ``None`` where that is not known.
    """
    model = sized(settings.source)
    judges = judges_of(settings.functions)
    found = {"downloads": downloads([model, *judges])}
    if model.parameters is None:
        return found
    found["memory"] = _memory(settings, model, judges)
    told = settings.options
    completions = told.get("generation_batch_size") or told[
        "per_device_train_batch_size"
    ] * settings.processes * (
        told.get("steps_per_generation") or told["gradient_accumulation_steps"]
    )
    trained_tokens = float(completions * (settings.steps or 0) * (settings.new_tokens or 0))
    measured = (
        len(settings.evaluation_prompts.texts) * settings.samples * (settings.new_tokens or 0)
    )
    # The policy learns and is read once more for its old probabilities; the reference is read.
    passes = _LEARN + _READ * (2 if settings.beta else 1)
    judged = sum(judge.parameters or 0.0 for judge in judges) * _READ
    found["computing"] = computing(
        trained_tokens * (model.parameters * passes + judged)
        + measured * (model.parameters * 2 * _READ + judged),
        (trained_tokens + measured) * model.parameters * _READ,
        calls,
    )
    return found


def _memory(settings: GrpoSettings, model: Sized, judges: list[Sized]) -> str:
    """Of weights and the optimiser; activations and caches come on top."""
    count = model.parameters or 0.0
    each = 4.0 if settings.dtype in ("auto", "float32") else 2.0
    if settings.tuning == "full":
        # weights, gradients, two moments; and the reference
        needed = count * (4 * each + (each if settings.beta else 0.0))
        how = "weights, gradients and AdamW's moments" + (
            ", and the reference" * bool(settings.beta)
        )
    else:
        needed, how = count * each, "the weights, which are the reference too"
    needed += sum(judge.parameters or 0.0 for judge in judges) * 2
    how += " and the reward models" if judges else ""
    return f"{gigabytes(needed)} on each GPU for {how}; activations and caches on top"


class GrpoOracle(GrpoSettings):
    """Fine-tunes a language model for each weight vector. Making one loads no model.

    Args:
        model: π_ref, which training starts from: a folder, or a name on the hub,
            "name@revision".
        rewards: by objective the name of a reward function, a table with its ``name`` and
            options, or a function with TRL's signature.
        prompts: to train on: JSON lines, another file, a folder, a dataset on the hub, or a
            table, see :class:`~palm_trl.options.PromptSet`.
        evaluation: to measure on, likewise; by default those trained on, which flatters.
        algorithm: "grpo" or "rloo" (reinforce leave-one-out, whose KL is part of the reward).
        preset: "objective" optimises J_w; "paper" does as appendix B.2 says: advantages scaled
            by their group's spread, rewards min–max normalised in each batch, G = 4, 208 steps
            of 48 prompts, full fine-tuning at learning rate 5e-7.
        trainer: any other option of TRL's configuration, by its name there.
        tuning: "lora" trains an adapter, "full" all weights.
        lora: options of peft's LoraConfig; r = 16 on all linear layers by default.
        beta: β ≥ 0.
        kl: f = β·KL of whole responses ("sequence", in nats) or per token of them ("token").
        steps: optimisation steps.
        new_tokens: the most tokens of a response.
        temperature: T > 0 of the policies, in training and when measured.
        samples: responses to each prompt when measuring.
        rows: responses generated at once when measuring.
        start: "base", or "nearest": from the adapter of the nearest weight vector that is
            finished (π_ref stays the model), for ``warm_steps`` steps.
        warm_steps: see there; ``None`` takes ``steps``.
        checkpoint_every: steps between two checkpoints, from which a killed call goes on.
        launcher: what a call is run by: "python" in a process of its own, "torchrun" or
            "accelerate" in several, "here" in this one (for tests).
        processes: that train together, each on a GPU of its own.
        launch: further arguments for torchrun or accelerate, such as those for many nodes.
        tokenizer: where it is not the model's.
        format, system, shortest, longest, others: how prompts are put and which lengths are
            accepted, see :class:`~palm_eval.lm.prompts.PromptFormat`.
        device: "auto" takes GPUs if there are any; or "cpu".
        dtype: of the model: "auto" as it was saved, "float32", "bfloat16" or "float16".
        task_dir: where models, prompts and modules of rewards are looked for first, by
            default the folder of the task file.
        epsilon, delta: the slack to claim. How near training comes to the best policy is not
            known, so 1 claims nothing; a smaller claim is held against the run's own answers.
        artifact_dir, work_dir: of the run; PALM gives them.
        run_seed: of the task.

    Raises:
        InputError: an option is wrong: named, with what would be accepted.
    """

    #: Nothing is shared between weight vectors.
    batch: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.trainer:
            from palm_trl.trainer_config import check_config

            check_config(self)

    def solve(self, weights: NDArray[np.float64]) -> Iterator[Policy]:
        """Yield one policy per row of ``weights`` (k, d), in order, each when it is trained.

        Raises:
            InputError: the model, a prompt or an option of TRL's is not what it must be.
            WorkError: training or measuring failed; the line says at which step, and what to
                change.
        """
        from palm_trl.policies import answer

        for row in weights:
            yield answer(self, row)

    def estimate(self, calls: int | None) -> dict[str, str]:
        """What so many calls take, in words by what it is of; ``None``: not known."""
        return estimated(self, calls)

    def remeasure(
        self, policy: Policy, *, artifact: Path, prompts: int, samples: int | None = None
    ) -> Policy:
        """Measure a policy again, on the first ``prompts`` of the evaluation's source.

        Args:
            policy: of a run of this oracle.
            artifact: its folder.
            prompts: at least 1, and as many as there are at most.
            samples: responses to each; ``None`` as in the run.

        Raises:
            InputError: there are not so many prompts, or the artifact is not the policy's.
            WorkError: measuring failed.
        """
        from palm_trl.measuring import remeasured

        return remeasured(self, policy, artifact=artifact, prompts=prompts, samples=samples)
