"""The configs that programs share; their fields are flags (see `bin.common.flags`)."""

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

from absl import flags as absl_flags

from bin.common import flags
from bin.common.flags import option
from thesis_tf import hardware as devices

if TYPE_CHECKING:
    import keras

    from thesis_tf.datasets import Splits

FLAGS = absl_flags.FLAGS


def seed_option() -> int:
    """Returns the option `seed`, which several configs have."""
    made: int = option(
        0,
        "Seeds initial weights, data order, dropout and random features.",
        lower_bound=0,
        upper_bound=2**32 - 1,
    )
    return made


def data_dir() -> str | None:
    """Returns the option `data_dir`, which several configs have."""
    made: str | None = option(
        None, "Folder with mnist.npz, cifar10.npz, train_32x32.mat, ...", is_path=True
    )
    return made


def _are_sizes(values: list[str] | None) -> bool:
    if values is None:
        return True
    return len(values) == 3 and all(value.isdigit() and int(value) > 0 for value in values)


def _are_steps(values: list[str]) -> bool:
    return all(value.isdigit() for value in values)


def _is_value_range(value: str | None) -> bool:
    if value is None or value == "none":
        return True
    try:
        black, white = map(float, value.split(","))
    except ValueError:
        return False
    return black < white


def _is_tpu_of_distribution(tpu: str) -> bool:
    return bool(tpu) == (FLAGS["distribution"].value == "tpu")


@dataclasses.dataclass(frozen=True)
class Data:
    """The examples."""

    dataset: str = option(
        "mnist_mini",
        "mnist_mini (bundled), mnist, fashion_mnist, cifar10, cifar100, svhn, tfds:NAME, an .npz"
        " file with x_train, y_train (and x_validation, x_test, ...), or a folder of images by"
        " class. Where no labels are needed (bin.dae, bin.gsn) also spiral, spiral15, manifold10d,"
        " manifold10d_25, or an .npz with x.",
        argument="name_or_path",
    )
    data_dir: str | None = data_dir()
    examples: tuple[int, int, int] | None = option(
        None,
        "Numbers of training, validation and test examples to draw, e.g. 5000,1000,1000."
        " Default: all.",
        valid=_are_sizes,
        message="must be three positive numbers, e.g. 5000,1000,1000",
    )
    seed: int = seed_option()
    value_range: str | None = option(
        None,
        "The values of black and white, e.g. 0,16 or -1,1, or none if values are no pixels."
        " Default: by the type and the values of the data; the first line of the log shows it.",
        valid=_is_value_range,
        message="must be two increasing numbers, e.g. 0,16, or none",
    )

    def load(self, *models: "Model", announce: bool = True) -> "Splits":
        """Returns the `Splits`, and says what was read.

        Args:
            *models: the networks that will take the examples.
            announce: whether it says so.

        Raises:
            ValueError: they can't be loaded, or a network has to know which values are black and
                white, and this can't be told from them.
        """
        from thesis_tf import datasets
        from thesis_tf.reporting import progress

        if self.dataset in set(datasets.INPUT_NAMES) - set(datasets.NAMES):
            raise ValueError(
                f"--dataset={self.dataset} has no labels, which this program needs. bin.dae and"
                " bin.gsn can use it."
            )
        splits = datasets.load(
            self.dataset, data_dir=self.data_dir, value_range=self._told(), seed=self.seed
        )
        for model in models:
            model.pixels(splits)
        if self.examples:
            train, validation, test = self.examples
            try:
                splits = splits.take(train=train, validation=validation, test=test, seed=self.seed)
            except ValueError as error:
                raise ValueError(f"--examples requests too many examples: {error}") from None
        if announce:
            said = [splits.describe(), *(model.scale(splits) for model in models[:1])]
            progress.say(" ".join(said))
        return splits

    def _told(self) -> Any:
        """Returns `value_range` as `datasets.load` takes it."""
        if self.value_range is None or self.value_range == "none":
            return self.value_range
        return tuple(map(float, self.value_range.split(",")))

    def load_inputs(self) -> "Splits":
        """Returns the `Splits` of examples without labels; raises if they can't be loaded."""
        from thesis_tf import datasets
        from thesis_tf.reporting import progress

        splits = datasets.load_inputs(
            self.dataset,
            data_dir=self.data_dir,
            examples=self.examples,
            value_range=self._told(),
            seed=self.seed,
        )
        progress.say(splits.describe())
        return splits


@dataclasses.dataclass(frozen=True)
class Model:
    """The network."""

    model: str = option(
        "mnist_convnet",
        "mnist_convnet, lenet, mlp, issgd_mlp, skip_mlp, resnet50, resnet101, resnet152, vgg16,"
        " vgg19, inception_v3, or a .keras file (loaded in safe mode), which ends in logits or"
        " in a softmax.",
        is_path=True,
    )
    weights: str = option(
        "none",
        "none, imagenet, or a .weights.h5 file; bin.probe also takes several, separated by commas.",
        is_path=True,
        several=True,
    )
    image_size: int | None = option(
        None, "Side length to which a backbone resizes images. Default: 224, or 299 (Inception)."
    )
    preprocessing: Literal["default", "caffe", "tf", "unit"] = option(
        "default",
        "How a backbone scales pixels: caffe (BGR minus mean), tf (in [-1, 1]), unit (in [0, 1]),"
        " or default (as the network was trained).",
    )
    auxiliary_head: bool = option(False, "Add the auxiliary head of Inception v3 on mixed7.")

    def pixels(self, splits: "Splits") -> tuple[float, float] | None:
        """Returns the black and white that the network scales, None if it takes values as stored.

        Raises:
            ValueError: the network scales pixels, but it can't be told what is black and white.
        """
        if self.model.endswith(".keras") or splits.values is None:
            return None
        return splits.values.known_pixels(splits.name)

    def scale(self, splits: "Splits") -> str:
        """Returns a sentence about the scale of pixels."""
        pixels = self.pixels(splits)
        if pixels is None:
            return f"{self.model} takes values as they are stored."
        return f"{self.model} scales pixels from {pixels[0]:g} to {pixels[1]:g} itself."

    def build(self, splits: "Splits", num_classes: int | None) -> "keras.Model":
        """Returns the Keras model for the examples of `splits`."""
        import models

        return models.build(
            self.model,
            splits.train.x.shape[1:],
            num_classes,
            value_range=self.pixels(splits),
            weights=self.weights,
            image_size=self.image_size,
            preprocessing=None if self.preprocessing == "default" else self.preprocessing,
            auxiliary_head=self.auxiliary_head,
        )


@dataclasses.dataclass(frozen=True)
class Hardware(devices.Hardware):
    """The devices and the precision."""

    distribution: str = option("none", "The devices to use.", choices=devices.DISTRIBUTIONS)
    num_virtual_devices: int = option(
        0, "Virtual devices into which the CPU is split, to try a distribution on it."
    )
    precision: str = option(
        "float32", "Precision of computation; weights stay float32.", choices=devices.PRECISIONS
    )
    seed: int = seed_option()
    deterministic: bool = option(
        False, "Deterministic compute kernels of TensorFlow; slower on GPUs."
    )
    tpu: str = option(
        "",
        "The TPU for --distribution=tpu: its name or address, or local for a TPU of this machine.",
        valid=_is_tpu_of_distribution,
        message="--distribution=tpu needs a TPU's name or address, or local; others take no --tpu",
    )


def checkpoint_every() -> int:
    """Returns the option `checkpoint_every`, which several configs have."""
    made: int = option(500, "Steps between checkpoints.", lower_bound=1)
    return made


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimization:
    """The optimizer and its batches."""

    batch_size: int = option(128, "Examples per step, over all devices.", lower_bound=1)
    optimizer: Literal["adam", "sgd", "rmsprop"] = option("adam", "The optimizer.")
    learning_rate: float = option(1e-3, "Learning rate of the optimizer.", lower_bound=0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training(Optimization):
    """The settings of training; each epoch leaves out the last partial batch."""

    epochs: int = option(
        flags.BY_PROGRAM,
        "Passes over the training examples. In bin.probe, the default for a trained network is 0.",
        lower_bound=0,
    )
    checkpoint_every: int = checkpoint_every()
    snapshots: tuple[int, ...] = option(
        (),
        "Steps whose weights are kept permanently, e.g. 0,100,1000.",
        valid=_are_steps,
        message="must be steps, e.g. 0,100",
    )


@dataclasses.dataclass(frozen=True)
class Output:
    """Where results go; these settings don't determine a run."""

    output_dir: str | None = option(
        None, "Folder for all results. Default: runs/NAME_OF_PROGRAM.", is_path=True
    )
    overwrite: bool = option(False, "Empty --output_dir if it holds another run.")


@dataclasses.dataclass(frozen=True)
class ChainOptions:
    """The Markov chains that a program samples from."""

    chains: int = option(
        2000,
        "Number of parallel chains; 0 for none, if the program allows it.",
        lower_bound=0,
    )
    chain_steps: int = option(2000, "Steps of each chain.", lower_bound=1)
