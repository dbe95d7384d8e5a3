"""PALM's evaluation: what responses are worth, and how good a portfolio is.

The public names below are loaded when first used, so that ``import palm_eval`` costs
milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_core._on_demand import on_demand

__version__ = "0.1.0"

if TYPE_CHECKING:
    from palm_eval.baselines import (
        Asked,
        BestSingle,
        Pruning,
        best_pruning,
        best_single,
        nearest_known,
        policies_at,
        prunings,
        random_weights,
        uniform_weights,
    )
    from palm_eval.comparison import (
        Comparison,
        Rivals,
        compare_oracles,
        compare_runs,
    )
    from palm_eval.diversity import (
        distinct_n,
        embedding_distance,
        self_bleu,
    )
    from palm_eval.evaluation import (
        Evaluation,
        evaluate_run,
    )
    from palm_eval.intervals import (
        Interval,
        bootstrap,
        bootstrap_mean,
        delta_band,
    )
    from palm_eval.language.prompt_files import (
        Prompts,
        read_prompts,
    )
    from palm_eval.language.prompts import (
        PromptFormat,
        encode_prompts,
    )
    from palm_eval.language.reward_tables import (
        load_rewards,
    )
    from palm_eval.measured import (
        Figures,
    )
    from palm_eval.metric_plugins import (
        available_metrics,
        load_metric,
    )
    from palm_eval.metrics import (
        SampledGaps,
        exact_gap_pairs,
        sampled_gap_pairs,
        sampled_gaps,
    )
    from palm_eval.multi_objective import (
        ExpectedUtility,
        expected_utility,
        hypervolume,
        maximum_utility_loss,
    )
    from palm_eval.prompt_scores import (
        PromptScores,
        fixed_portfolio,
        rechosen_portfolio,
    )
    from palm_eval.report import (
        ReportContents,
        gather_report,
        render_report,
        write_report,
    )
    from palm_eval.responses import (
        Responses,
        read_responses,
        write_responses,
    )
    from palm_eval.rewards import (
        available_rewards,
        load_reward,
    )
    from palm_eval.run_diversity import (
        RunDiversity,
        portfolio_diversity,
    )
    from palm_eval.run_responses import (
        RunResponses,
        responses_of,
    )
    from palm_eval.scoring import (
        Scores,
        score,
    )
    from palm_eval.tables import (
        Table,
        make_table,
    )
    from palm_eval.usage import (
        exact_usage,
        perplexity,
    )

_HOME = {
    "baselines": (
        "Asked",
        "BestSingle",
        "Pruning",
        "best_pruning",
        "best_single",
        "nearest_known",
        "policies_at",
        "prunings",
        "random_weights",
        "uniform_weights",
    ),
    "comparison": (
        "Comparison",
        "Rivals",
        "compare_oracles",
        "compare_runs",
    ),
    "diversity": (
        "distinct_n",
        "embedding_distance",
        "self_bleu",
    ),
    "evaluation": (
        "Evaluation",
        "evaluate_run",
    ),
    "intervals": (
        "Interval",
        "bootstrap",
        "bootstrap_mean",
        "delta_band",
    ),
    "language.prompt_files": (
        "Prompts",
        "read_prompts",
    ),
    "language.prompts": (
        "PromptFormat",
        "encode_prompts",
    ),
    "language.reward_tables": ("load_rewards",),
    "measured": ("Figures",),
    "metric_plugins": (
        "available_metrics",
        "load_metric",
    ),
    "metrics": (
        "SampledGaps",
        "exact_gap_pairs",
        "sampled_gap_pairs",
        "sampled_gaps",
    ),
    "multi_objective": (
        "ExpectedUtility",
        "expected_utility",
        "hypervolume",
        "maximum_utility_loss",
    ),
    "prompt_scores": (
        "PromptScores",
        "fixed_portfolio",
        "rechosen_portfolio",
    ),
    "report": (
        "ReportContents",
        "gather_report",
        "render_report",
        "write_report",
    ),
    "responses": (
        "Responses",
        "read_responses",
        "write_responses",
    ),
    "rewards": (
        "available_rewards",
        "load_reward",
    ),
    "run_diversity": (
        "RunDiversity",
        "portfolio_diversity",
    ),
    "run_responses": (
        "RunResponses",
        "responses_of",
    ),
    "scoring": (
        "Scores",
        "score",
    ),
    "tables": (
        "Table",
        "make_table",
    ),
    "usage": (
        "exact_usage",
        "perplexity",
    ),
}

__all__ = [
    "Asked",
    "BestSingle",
    "Comparison",
    "Evaluation",
    "ExpectedUtility",
    "Figures",
    "Interval",
    "PromptFormat",
    "PromptScores",
    "Prompts",
    "Pruning",
    "ReportContents",
    "Responses",
    "Rivals",
    "RunDiversity",
    "RunResponses",
    "SampledGaps",
    "Scores",
    "Table",
    "available_metrics",
    "available_rewards",
    "best_pruning",
    "best_single",
    "bootstrap",
    "bootstrap_mean",
    "compare_oracles",
    "compare_runs",
    "delta_band",
    "distinct_n",
    "embedding_distance",
    "encode_prompts",
    "evaluate_run",
    "exact_gap_pairs",
    "exact_usage",
    "expected_utility",
    "fixed_portfolio",
    "gather_report",
    "hypervolume",
    "load_metric",
    "load_reward",
    "load_rewards",
    "make_table",
    "maximum_utility_loss",
    "nearest_known",
    "perplexity",
    "policies_at",
    "portfolio_diversity",
    "prunings",
    "random_weights",
    "read_prompts",
    "read_responses",
    "rechosen_portfolio",
    "render_report",
    "responses_of",
    "sampled_gap_pairs",
    "sampled_gaps",
    "score",
    "self_bleu",
    "uniform_weights",
    "write_report",
    "write_responses",
]

if not TYPE_CHECKING:  # to whom it would say that there is every name
    __getattr__, __dir__ = on_demand(__name__, _HOME)
