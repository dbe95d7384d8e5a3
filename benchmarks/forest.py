"""Multi-objective decoding: the shared forest against one decoding for each weight vector.

    python benchmarks/forest.py [--quick] [--size small] [--device cpu]

Three experts are one random Llama with more or less noise on its parameters, so that their
most likely tokens differ at a share ρ of the steps (measured along the decoding of the
centre of the simplex). All decode the same prompts greedily, without an end token, in
float32 on one thread (``--threads``), or on ``--device cuda``.

* ``forest``: palm_mod, all weight vectors and all prompts together.
* ``generate``: transformers' own ``generate`` for each weight vector, the prompts in one
  batch; a LogitsProcessor runs the other experts with caches of their own and mixes. It is
  run for a few weights, spread over them all, and its time is scaled up to all; the tokens
  are compared with the forest's.
* ``ideal``: generate's time divided by (rows of all decodings alone / rows of the forest),
  what sharing would give if a row cost the same there as here. "of ideal" below 1 is
  possible: a forest runs more rows in one batch.

The second table bounds the rows that are held at once, and shows what that costs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from common import Aim, Benchmark, Figure, run, seconds

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from common import Record

FASTER = Figure("time of generate for each weight / time of the forest", drawn="time, generate")
FEWER = Figure("rows of all decodings alone / rows of the forest", drawn="rows run, generate")
OF_IDEAL = Figure("time of the forest / generate's time divided by that ratio of rows")
AGREEING = Figure("times faster at 91 weights, where experts differ on at most 10 % of steps")
EQUAL = Figure("responses equal to generate's, token for token", "%")
ABOUT = Benchmark(
    question="How much faster are all weights decoded together than one after the other?",
    against="`generate` for each weight",
    baseline="transformers' own `generate` for each weight vector, with the same mixing in a "
    "LogitsProcessor and the other experts' caches kept.",
    why="It is what multi-objective decoding takes without palm_mod, done well: batched over "
    "prompts, with caches, and the same tokens come out.",
    quick="small models, 25 and 91 weights; half a minute",
    full="models of 4 layers, 25 to 408 weights, four rates of disagreement; ten minutes",
    figures=(FASTER, FEWER, OF_IDEAL, AGREEING, EQUAL),
    aims=(
        Aim("at most 1.3 times the time that the rows alone would ask for", OF_IDEAL, most=1.3),
        Aim("5 times faster at 91 weights where experts mostly agree", AGREEING, least=5),
        Aim("the same responses", EQUAL, least=1),
    ),
)
# Noise relative to the parameters' own size; the experts disagree more with more.
NOISES = (0.005, 0.02, 0.05, 0.15)
WEIGHTS = (25, 91, 408)


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--size", choices=("quick", "small", "large"), default="small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=1)


def measure(given: Namespace, record: Record) -> None:
    import torch

    from _experts import (
        SIZES,
        D,
        Watching,
        decode,
        experts_of,
        finish,
        generate,
        make_models,
        weights_of,
    )
    from palm_mod.mixing import Mixing
    from palm_mod.prefix_tree import Limits, grow

    torch.set_num_threads(given.threads)
    size = SIZES["quick" if given.quick else given.size]
    dtype = torch.bfloat16 if given.dtype == "bfloat16" else torch.float32
    chance = torch.Generator().manual_seed(7)
    ids = torch.randint(size.vocabulary, (size.prompts, size.prompt), generator=chance)
    ids = ids.to(given.device)
    record.note(
        f"{D} experts of {size.layers} layers and width {size.hidden}, {size.prompts} prompts, "
        f"{size.tokens} new tokens, {given.device}, {given.dtype}; generate timed for "
        f"{size.compared} weights and scaled up to all."
    )
    table = record.table(
        "all weights together, and one by one",
        *("noise", "    ρ", "weights", "rows run", "   alone", "fewer", "forest s", "generate s"),
        *("faster", "of ideal", "tokens/s", "equal"),
    )
    for noise in NOISES[:3] if given.quick else NOISES:
        models = make_models(size, noise, given.device, dtype)
        experts = experts_of(models, size)
        watching = Watching(np.full((1, D), 1 / D), Mixing())
        limits = Limits(new_tokens=size.tokens, rows=size.rows)
        grow(experts, ids.tolist(), [(0,)] * len(ids), watching, limits)
        share = watching.differing / watching.steps
        for count in WEIGHTS[:2] if given.quick else WEIGHTS:
            weights = weights_of(count)
            places = np.linspace(0, count - 1, size.compared).astype(int)
            generate(models, ids, weights[0], 2)
            finish(given.device)
            taken, leaves, counts = decode(experts, ids, weights, size, size.rows, given.device)
            found = {(leaf.prompt, one): leaf.tokens for leaf in leaves for one in leaf.members}
            made: list[Any] = []

            def one_by_one(
                made: list[Any] = made,
                places: Any = places,
                weights: Any = weights,
                models: Any = models,
            ) -> None:
                made += [generate(models, ids, weights[one], size.tokens) for one in places]
                finish(given.device)

            each = seconds(one_by_one) / len(places)
            # once more, so that the forest is timed on both sides of what it is compared with
            taken = min(taken, decode(experts, ids, weights, size, size.rows, given.device)[0])
            equal = np.mean(
                [
                    found[prompt, int(one)] == tuple(row.tolist())
                    for one, rows in zip(places, made, strict=True)
                    for prompt, row in enumerate(rows)
                ]
            )
            alone, fewer = each * count, counts.alone / counts.rows
            of = f"ρ = {share:.2f}, {count} weights"
            record.value(FASTER, of, alone / taken)
            record.value(FEWER, of, fewer)
            record.value(OF_IDEAL, of, taken / (alone / fewer))
            record.value(EQUAL, of, float(equal))
            if count == 91 and share <= 0.1:
                record.value(AGREEING, of, alone / taken)
            table.row(
                *(f"{noise:g}", f"{share:.3f}", count, f"{counts.rows:,}", f"{counts.alone:,}"),
                *(f"{fewer:.1f}", f"{taken:.2f}", f"{alone:.1f}", f"{alone / taken:.1f}×"),
                *(f"{taken / (alone / fewer):.2f}", f"{counts.alone / taken:,.0f}", f"{equal:.0%}"),
            )
    experts = experts_of(make_models(size, NOISES[1], given.device, dtype), size)
    weights = weights_of(WEIGHTS[1])
    table = record.table(
        f"a bound on the rows held at once: noise {NOISES[1]}, {len(weights)} weights",
        *("rows", "forest s", "read again", "their tokens", "most held", "most waiting"),
        "caches and more, MiB",
    )
    for rows in (4, 16, 64, 256, 1024):
        taken, _, counts = decode(experts, ids, weights, size, rows, given.device)
        memory = experts.memory.of_rows(counts.most_held, size.prompt + size.tokens) / 2**20
        table.row(
            *(rows, f"{taken:.2f}", counts.read_again, counts.tokens_read_again),
            *(counts.most_held, counts.most_waiting, f"{memory:.1f}"),
        )


if __name__ == "__main__":
    run(__file__, ABOUT, measure, arguments)
