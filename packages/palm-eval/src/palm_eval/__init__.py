"""PALM's evaluation: reward functions for responses, quality metrics for portfolios.

The public names below are loaded when first used, so that ``import palm_eval`` costs
milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_core.plugin import on_demand

__version__ = "0.1.0"

if TYPE_CHECKING:
    from palm_eval.analysis.evaluation import Evaluation, Figures, evaluate_run
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
    from palm_eval.comparison import Comparison, Rivals, compare_oracles, compare_runs
    from palm_eval.diversity import (
        RunDiversity,
        distinct_n,
        embedding_distance,
        portfolio_diversity,
        self_bleu,
    )
    from palm_eval.intervals import (
        Interval,
        PromptScores,
        bootstrap,
        bootstrap_mean,
        delta_band,
        fixed_portfolio,
        rechosen_portfolio,
    )
    from palm_eval.lm.prompts import PromptFormat, Prompts, encode_prompts, read_prompts
    from palm_eval.metric_plugins import available_metrics, load_metric
    from palm_eval.metrics import (
        ExpectedUtility,
        SampledGaps,
        exact_gap_pairs,
        exact_usage,
        expected_utility,
        hypervolume,
        maximum_utility_loss,
        perplexity,
        sampled_gap_pairs,
        sampled_gaps,
    )
    from palm_eval.report import ReportContents, gather_report, render_report, write_report
    from palm_eval.responses import (
        Responses,
        RunResponses,
        read_responses,
        responses_of,
        write_responses,
    )
    from palm_eval.rewards import available_rewards, load_reward
    from palm_eval.rewards.registry import load_rewards
    from palm_eval.scoring import Scores, score
    from palm_eval.tables import Table, make_table


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

if not TYPE_CHECKING:  # a type checker would treat every attribute as defined
    __getattr__, __dir__ = on_demand(__name__)
