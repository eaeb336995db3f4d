r"""Trains a network, with exact resumption after a kill.

Without flags it trains the MNIST convnet of figure 9.2 on the bundled data (about a minute):

    python -m bin.train

After a kill at any moment, the same command ends with the same weights as an uninterrupted run.
More examples:

    # The 128-layer network of figure 9.6.
    python -m bin.train --model=skip_mlp --learning_rate=1e-4 --epochs=30 --output_dir=runs/skip
    # Inception v3 with auxiliary head on small images, weights kept at four steps (figure 9.9).
    python -m bin.train --model=inception_v3 --auxiliary_head --image_size=75 --dataset=cifar10 \
        --batch_size=64 --epochs=2 --learning_rate=3e-4 --snapshots=0,100,500,1400 \
        --output_dir=runs/inception
    # Two virtual devices on a machine without accelerators; two machines (listed in TF_CONFIG).
    python -m bin.train --distribution=mirrored --num_virtual_devices=2 --output_dir=runs/mirrored
    TF_CONFIG=... python -m bin.train --distribution=multi_worker --output_dir=/shared/run

The program writes to --output_dir: config.json, checkpoint.npz, the snapshots, logs/ for
TensorBoard, and at the end model.keras, model.weights.h5 and metrics.json.
"""

import dataclasses
import functools
import math
import pathlib

from bin.common import configs, contents, ends, flags, runs


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of one run; a folder with an equal config holds the same run."""

    data: configs.Data
    model: configs.Model
    hardware: configs.Hardware
    training: configs.Training


flags.define(__name__, Config, configs.Output, defaults={"epochs": 5})
RESULTS = ("model.keras", "model.weights.h5", "metrics.json")  # in the order of writing


def config_from_flags() -> Config:
    """Reads the flags; raises UsageError for a combination that makes no sense."""
    return flags.read(Config)


def run(
    config: Config,
    folder: pathlib.Path,
    *,
    begin: runs.Begin = runs.no_folder,
    warn: ends.Warn = ends.unheard,
    verbose: int = 0,
) -> dict[str, float]:
    """Trains according to `config` and writes to `folder`; returns the metrics on test examples.

    `begin` is called after all checks of the arguments, before anything is written; `warn` if the
    network is no better than a guess.
    """
    from bin.common import model_fit, training
    from bin.jobs import guess
    from thesis_tf import hardware
    from thesis_tf.persistence import files

    splits = config.data.load(config.model)
    training.planned_steps(splits, config.training)
    strategy = hardware.configure(config.hardware)
    chief = hardware.is_chief(strategy)
    with strategy.scope():
        model = config.model.build(splits, splits.num_classes)
        model_fit.check(model, splits)
        training.compile_for(model, config.training)
    if chief:
        begin(contents.of_splits(splits))
    hardware.wait_for_all(strategy)
    seed = config.hardware.seed
    logs = training.train(
        model, splits, config.training, folder, seed=seed, chief=chief, verbose=verbose
    )
    results = [folder / name for name in RESULTS]
    finished = not logs and all(path.exists() for path in results)
    if verbose and config.training.epochs and not logs:
        print(f"The training in {folder} was already finished: no steps are left.")
    if finished:
        # Several machines differ in moving averages, which a checkpoint doesn't keep apart: an
        # evaluation now may differ from that at the end of the training.
        metrics: dict[str, float] = files.read_json(folder / "metrics.json")
    else:
        metrics = training.evaluate(model, splits.test, config.training.batch_size)
    if not math.isfinite(metrics["loss"]):
        raise ValueError(
            f"The loss on test examples is {metrics['loss']}: training has diverged, or an example"
            " is not finite. Choose a lower --learning_rate."
        )
    if config.training.epochs:
        accuracy = next((v for name, v in metrics.items() if name.endswith("accuracy")), None)
        for sentence in guess.doubts(accuracy, splits.test.y):
            warn(sentence)
    if chief and not finished:
        with files.atomic(folder / "model.keras") as partial:
            model.save(partial)
        with files.atomic(folder / "model.weights.h5") as partial:
            model.save_weights(partial)
        files.write_json(folder / "metrics.json", metrics)
    return metrics


def main(argv: list[str]) -> None:
    """Flags, config, run."""
    with ends.clean_errors(argv):
        config, output = config_from_flags(), flags.read(configs.Output)
        folder = runs.claim(output.output_dir or "runs/train", config, output.overwrite)
        begin = functools.partial(runs.begin, folder, config, overwrite=output.overwrite)
        doubts: list[str] = []
        metrics = run(config, folder, begin=begin, warn=doubts.append, verbose=runs.verbose())
        shown = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        print(f"Test examples: {shown}. All results are in {folder}.")
        ends.conclude(folder, doubts)


if __name__ == "__main__":
    ends.start(main)
