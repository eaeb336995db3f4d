"""Networks for layouts and drawings, as taps and edges."""

import itertools
import random
import types

import pytest


def chain(*names):
    return list(itertools.pairwise(names))


def mlp(depth, skip_to):
    names = ["input", *(f"dense_{i}" for i in range(1, depth + 1))]
    return names, [*chain(*names), ("input", f"dense_{skip_to}")]


def inception(blocks, lengths=(1, 2, 3, 1)):
    names, edges = ["conv_1", "conv_2"], [("conv_1", "conv_2")]
    for block in range(blocks):
        start, end = names[-1], f"mixed{block}"
        for branch, length in enumerate(lengths):
            run = [f"b{block}_{branch}_{i}" for i in range(length)]
            names += run
            edges += chain(start, *run, end)
        names.append(end)
    return names, edges


def dense_block(width):
    names = [f"l{i}" for i in range(width)]
    return names, list(itertools.combinations(names, 2))


def several_ends():
    edges = [
        *chain("image", "conv1", "conv2", "fuse", "hidden", "class"),
        *chain("text", "embed", "fuse", "box"),
        *chain("meta", "hidden"),
        ("conv1", "box"),
    ]
    return [*dict.fromkeys(itertools.chain(*edges)), "unused_a", "unused_b"], edges


def random_dag(seed):
    draw = random.Random(seed)
    names = [f"n{i}" for i in range(40)]
    edges = [(names[draw.randrange(i)], names[i]) for i in range(1, 40) for _ in range(2)]
    return names, edges


NETWORKS = {
    "one": (["logits"], []),
    "chain": (list("abcdefg"), chain(*"abcdefg")),
    "mlp": mlp(128, 64),
    "inception": inception(9),
    "dense block": dense_block(9),
    "several ends": several_ends(),
    **{f"random {seed}": random_dag(seed) for seed in range(4)},
}


@pytest.fixture(params=NETWORKS)
def network(request):
    """The taps and edges of one network after another."""
    return NETWORKS[request.param]


@pytest.fixture(scope="session")
def networks():
    """Functions that return (taps, edges) by shape, and `named`, one network of each kind."""
    return types.SimpleNamespace(
        named=NETWORKS, mlp=mlp, inception=inception, dense_block=dense_block
    )
