"""The oracle `grpo`: a policy fine-tuned by reinforcement learning for each weight vector.

Paper, section 4 and appendix B.2. It trains π_w for

    J_w(π) = Σ_i w_i E[r_i] − β KL(π ‖ π_ref),    π_ref the model it starts from,

and then measures r and f = β·KL separately, on prompts that are the same for all policies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from palm_eval.plugin import Sized, computing, downloads, gigabytes, judges_of, sized
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
    """Estimate the resources of ``calls`` oracle calls, as texts by resource.

    Args:
        settings: of training and measurement.
        calls: their number; ``None`` if unknown.
    """
    model = sized(settings.source)
    judges = judges_of(settings.functions)
    found = {"downloads": downloads([model, *judges])}
    if model.parameters is None:
        return found
    found["memory"] = _memory(settings, model, judges)
    trainer = settings.options
    completions = trainer.get("generation_batch_size") or trainer[
        "per_device_train_batch_size"
    ] * settings.processes * (
        trainer.get("steps_per_generation") or trainer["gradient_accumulation_steps"]
    )
    trained_tokens = float(completions * (settings.steps or 0) * (settings.new_tokens or 0))
    measured = (
        len(settings.evaluation_prompts.texts) * settings.samples * (settings.new_tokens or 0)
    )
    # Training pass and one more forward pass for old log-probabilities; forward of the reference.
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
    """Memory of weights and optimiser state; activations and caches are not included."""
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
    """Fine-tunes a language model for each weight vector. Construction loads no model.

    Args:
        model: π_ref, from which training starts: a folder, or a hub name, "name@revision".
        rewards: by objective the name of a reward function, a table with its ``name`` and
            options, or a function with TRL's signature.
        prompts: training prompts: JSON lines, another file, a folder, a dataset on the hub,
            or a table, see :class:`~palm_trl.options.PromptSet`.
        evaluation: evaluation prompts, likewise; by default the training prompts, which
            biases the rewards upwards.
        algorithm: "grpo" or "rloo" (reinforce leave-one-out, whose KL is part of the reward).
        preset: "objective" optimises J_w; "paper" follows appendix B.2: advantages scaled
            by their group's spread, rewards min–max normalised in each batch, G = 4, 208 steps
            of 48 prompts, full fine-tuning at learning rate 5e-7.
        trainer: further options of TRL's configuration, by name.
        tuning: "lora" trains an adapter, "full" all weights.
        lora: options of peft's LoraConfig; by default r = 16 on all linear layers.
        beta: β ≥ 0.
        kl: f = β·KL of whole responses ("sequence", in nats) or per token of them ("token").
        steps: optimisation steps.
        new_tokens: maximum tokens of a response.
        temperature: T > 0 of the policies, in training and measurement.
        samples: responses to each prompt in the measurement.
        rows: batch size of generation in the measurement.
        start: "base", or "nearest": warm start from the adapter of the nearest finished
            weight vector (π_ref stays the model), for ``warm_steps`` steps.
        warm_steps: steps after a warm start; ``None`` takes ``steps``.
        checkpoint_every: steps between two checkpoints, from which a killed call resumes.
        launcher: "python" runs a call in a subprocess, "torchrun" or "accelerate" in
            several, "here" in this process (for tests, and where there is no POSIX system).
        processes: number of training processes, each on its own GPU.
        launch: further arguments of torchrun or accelerate, for example for several nodes.
        tokenizer: by default the model's.
        format, system, shortest, longest, others: the prompt format and the accepted prompt
            lengths, see :class:`~palm_eval.lm.prompts.PromptFormat`.
        device: "auto" for GPUs if there are any; or "cpu".
        dtype: of the model: "auto" as saved, "float32", "bfloat16" or "float16".
        task_dir: searched first for models, prompts and modules of rewards; by default the
            folder of the task file.
        epsilon, delta: the slack to claim. How near training comes to the best policy is
            unknown, so 1 claims nothing; a smaller claim is validated against the run's
            answers.
        artifact_dir, work_dir: folders of the run; set by PALM.
        run_seed: the task's seed.

    Raises:
        InputError: an invalid option; the message names it and the accepted values.
    """

    #: Weight vectors share no work.
    batch: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.trainer:
            from palm_trl.trainer_config import check_config

            check_config(self)

    def solve(self, weights: NDArray[np.float64]) -> Iterator[Policy]:
        """Yield one policy per row of ``weights`` (k, d), in order, as soon as it is trained.

        Raises:
            InputError: the model, a prompt or an option of TRL is invalid.
            WorkError: training or measurement failed; the message names the step and the
                options to change.
        """
        from palm_trl.policies import answer

        for row in weights:
            yield answer(self, row)

    def estimate(self, calls: int | None) -> dict[str, str]:
        """Estimate the resources of ``calls`` calls, as texts by resource; ``None``: unknown."""
        return estimated(self, calls)

    def remeasure(
        self, policy: Policy, *, artifact: Path, prompts: int, samples: int | None = None
    ) -> Policy:
        """Measure a policy again, on the first ``prompts`` prompts of the evaluation source.

        Args:
            policy: of a run of this oracle.
            artifact: its folder.
            prompts: from 1 to the number of prompts available.
            samples: responses to each; ``None`` as in the run.

        Raises:
            InputError: there are too few prompts, or the artifact is not the policy's.
            WorkError: the measurement failed.
        """
        from palm_trl.measuring import remeasured

        return remeasured(self, policy, artifact=artifact, prompts=prompts, samples=samples)
