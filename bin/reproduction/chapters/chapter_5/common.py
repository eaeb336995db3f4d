"""Shared by the figures of chapter 5: networks, image montages and comparisons."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from bin.reproduction.chapters.chapter_5.studies import (
    digit_classifier,
    gsn_chains,
    real_valued_gsn,
)
from bin.reproduction.engine.contract import NO_NUMBER, Claim, verdict

_MNIST: dict[str, Any] = {
    "dataset": "mnist",
    "needs": ("mnist",),
    "batch_size": 100,
    "learning_rate": 2e-3,
    "scored": (8, 12_500, 10),
    "classifier": digit_classifier.CONFIGS["full"],
}
_WIDE: dict[str, Any] = {"network": "dae", "layers": (2000,)}
_DEEP: dict[str, Any] = {"layers": (1000, 1000)}
# The rows of Table 5.1. The numbers of epochs are chosen so that all networks need about the same
# amount of computation. The plain auto-encoder computes as many reconstructions as the one with
# four steps of walkback.
NETWORKS = {
    "quick": {
        "DAE": gsn_chains.Config(network="dae", layers=(500,), walkback=1, epochs=(32,)),
        "DAE, walkback": gsn_chains.Config(network="dae", layers=(500,), epochs=(8,)),
        "GSN-1": gsn_chains.Config(layers=(500,), epochs=(15,)),
        "GSN-2": gsn_chains.Config(epochs=(0, 4, 10), completed=200),
        "GSN-2, alpha_k": gsn_chains.Config(scaling=True),
        "GSN-3": gsn_chains.Config(layers=(500, 500, 500), epochs=(7,)),
    },
    "full": {
        "DAE": gsn_chains.Config(**_MNIST, **_WIDE, walkback=1, epochs=(40,)),
        "DAE, walkback": gsn_chains.Config(**_MNIST, **_WIDE),
        "GSN-1": gsn_chains.Config(**_MNIST, layers=(1000,), epochs=(18,)),
        "GSN-2": gsn_chains.Config(**_MNIST, **_DEEP, epochs=(0, 4, 10), completed=200),
        "GSN-2, alpha_k": gsn_chains.Config(**_MNIST, **_DEEP, scaling=True),
        "GSN-3": gsn_chains.Config(**_MNIST, layers=(1000, 1000, 1000), epochs=(7,)),
    },
}
_FACES = {
    "quick": real_valued_gsn.Config(takes=("faces",)),
    "full": real_valued_gsn.Config(
        needs_one_of=("faces", "cifar10"),
        stand_in="cifar10",
        side=32,
        examples=(50_000, 2000, 2000),
        layers=(1000, 1000, 1000),
        smallest=0.1,
        epochs=(5,),
        batch_size=100,
        learning_rate=1e-3,
        scored=(8, 12_500, 10),
    ),
}
# The networks of figures 5.8 (without scaling factors) and 5.10 (with scaling factors).
FACES = {
    budget: {"plain": config, "scaled": dataclasses.replace(config, scaling=True)}
    for budget, config in _FACES.items()
}
DATA = {"faces": "faces", "cifar10": "gray CIFAR-10 images", "mnist_mini": "digits"}
ESTIMATES = {"parzen": "Parzen window", "conservative": "conservative estimate"}
_COPY = 1 / 3


def note(name: str, config: gsn_chains.Config, found: dict[str, Any]) -> str:
    """Returns a note on the training of a network on digits."""
    units = "-".join(map(str, (784, *config.layers, *((784,) if config.network == "dae" else ()))))
    noisy = config.network == "gsn" and len(config.layers) > 1
    noise = f", noise {config.noise:g}" if noisy else ""
    return (
        f"{name}: {units}{noise}, {config.epochs[-1]} epochs of {found['examples']:,} digits in"
        f" batches of {config.batch_size}, {_steps(config)}."
    )


def smaller(config: gsn_chains.Config) -> list[str]:
    """Returns a note on the thesis' networks if they are larger than this one."""
    if config.dataset == "mnist":
        return []
    return [
        "The thesis' networks have 2,000 hidden units (auto-encoders) or 1,000 per layer, and are"
        " trained on all of MNIST."
    ]


def _steps(config: gsn_chains.Config) -> str:
    return "no walkback" if config.walkback == 1 else f"walkback {config.walkback}"


def judged(found: dict[str, Any]) -> str:
    """Returns a note on the classifier that judges samples."""
    return (
        f"The classifier's accuracy on test images is {found['accuracy']:.1%}. Its largest class"
        f" probability is at most 0.5 for {found['real']['unsure']:.1%} of them, and"
        f" {found['real']['confidence']:.3f} on average."
    )


def shown(mean: float, error: float, digits: int = 3) -> str:
    """Formats a number with its standard error."""
    return f"{mean:.{digits}f} ± {error:.{digits}f}"


def fraction(quality: dict[str, Any]) -> str:
    """Formats the fraction of spurious samples, with its standard error."""
    error = quality["standard_errors"]["unsure"]
    return f"{quality['unsure']:.1%} ± {error:.1%}"


def fewer(
    quality: dict[str, Any], than: dict[str, Any], name: str = "unsure"
) -> tuple[float, float]:
    """Returns the decrease of `name` from `than` to `quality`, and its standard error."""
    errors = [q["standard_errors"][name] for q in (quality, than)]
    return than[name] - quality[name], float(np.hypot(*errors))


def nats(estimate: dict[str, Any]) -> tuple[float, float]:
    """Returns a log-likelihood and its standard error, over test examples and over chains.

    The variation between single chains gives a conservative error for the estimate from all chains.
    """
    errors = [estimate["standard_error"], estimate["chain_standard_error"]]
    errors = [error for error in errors if error is not None]
    return estimate["log_likelihood"], float(np.hypot.reduce(errors))


def more_nats(estimate: dict[str, Any], than: dict[str, Any]) -> tuple[float, float]:
    """Returns the difference of two estimates in nats, and its standard error."""
    (mean, error), (other, other_error) = nats(estimate), nats(than)
    return mean - other, float(np.hypot(error, other_error))


def factors(alphas: np.ndarray) -> str:
    """Formats scaling factors."""
    return ", ".join(f"{alpha:.2f}" for alpha in alphas)


def halfway(alphas: np.ndarray) -> int:
    """Returns the index of the middle epoch of factors (epochs, k)."""
    return (len(alphas) - 1) // 2


def settled(alphas: np.ndarray) -> bool:
    """Whether the order of factors (epochs, k) stayed the same in the second half of training."""
    order = np.sign(np.diff(alphas[halfway(alphas) :], axis=1))
    return len(alphas) > 1 and bool((order == order[-1]).all())


def is_real_valued(data: str) -> bool:
    """Whether a data set counts as real-valued: digits don't, since they are nearly binary."""
    return data != "mnist_mini"


def notes_on_faces(config: real_valued_gsn.Config, found: dict[str, Any]) -> list[str]:
    """Returns notes on the data and the training of a network on real-valued images."""
    layers = "-".join(map(str, (found["side"] ** 2, *config.layers)))
    said = (
        f"{layers}, noise {config.noise:g}, {config.epochs[-1]} epochs of {found['examples']:,}"
        f" images of {found['side']} x {found['side']}, each of mean 0 and variance 1, with"
        f" Gaussian noise of {config.corruption:g} and walkback {config.walkback}."
    )
    if found["data"] == "faces":
        return [said]
    return [f"{DATA[found['data']]} stand in for faces, as real values.", said]


def no_copies(found: dict[str, Any]) -> Claim:
    """Returns the claim that the last samples of chains are not copies of training examples.

    A copy is much closer to one example than to any other. By the rule of Yoon et al. (2023), the
    nearest distance is less than a third of the second nearest. For samples that are farther from
    the data than held-out examples are, the absence of copies would mean nothing.
    """
    drawn, held_out = (found["distances"][name] for name in ("samples", "held_out"))
    medians = [float(np.median(distances[:, 0])) for distances in (drawn, held_out)]
    ratios = [distances[:, 0] / distances[:, 1] for distances in (drawn, held_out)]
    copies = int((ratios[0] < _COPY).sum())
    return Claim(
        "The samples are not merely copies of training examples.",
        NO_NUMBER,
        f"distance of {len(drawn)} last samples to the nearest training example: median"
        f" {medians[0]:.1f}, least {drawn[:, 0].min():.1f}; of {len(held_out)} held-out examples"
        f" {medians[1]:.1f} and {held_out[:, 0].min():.1f} (ratio of medians"
        f" {medians[0] / medians[1]:.2f}). Nearest over second nearest: least"
        f" {ratios[0].min():.2f} and {ratios[1].min():.2f}; below a third, and so a copy: {copies}",
        verdict(copies == 0, told=copies > 0 or medians[0] <= medians[1]),
    )


def draw_nearest(
    found: dict[str, Any], path: pathlib.Path, rows: int = 8, columns: int = 10
) -> None:
    """Draws the last steps of chains as rows, each followed by the nearest training example."""
    images = found["images"][-columns:, :rows].swapaxes(0, 1)
    chains = montage(images)
    gap = np.full((len(chains), images.shape[-1] // 3), 255, np.uint8)
    nearest = montage(found["nearest"][: len(images), np.newaxis])
    title = "rows: consecutive steps of a chain, then the training example nearest to the last step"
    draw_sheets({title: np.hstack([chains, gap, nearest])}, path, columns=1)


def montage(images: np.ndarray, gap: int = 1) -> np.ndarray:
    """Returns images (rows, columns, height, width) of bytes as one, with white gaps."""
    rows, columns, height, width = images.shape
    tiled = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap), 255, np.uint8)
    for row in range(rows):
        for column in range(columns):
            top, left = row * (height + gap), column * (width + gap)
            tiled[top : top + height, left : left + width] = images[row, column]
    return tiled


def draw_sheets(sheets: dict[str, Any], path: pathlib.Path, columns: int = 2) -> None:
    """Draws montages of images in a grid.

    Args:
        sheets: {title: an image (height, width) of bytes, such as a `montage`}.
        path: the file to write.
        columns: the number of sheets per row.
    """
    from thesis_tf.plotting import style

    shapes = [image.shape for image in sheets.values()]
    ratios = [
        max(height / width for height, width in shapes[start : start + columns])
        for start in range(0, len(shapes), columns)
    ]
    width = 7.2
    heights = [width / columns * ratio + 0.3 for ratio in ratios]
    figure = style.new_figure(width, sum(heights))
    panels = figure.subplots(
        len(ratios), columns, squeeze=False, gridspec_kw={"height_ratios": heights}
    ).ravel()
    for axes, (title, image) in zip(panels, sheets.items(), strict=False):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_title(title, loc="left", fontsize=9, family=style.FONT, color=style.INK)
    for axes in panels:
        axes.set_axis_off()
    style.save(figure, path)
