"""The flags that binaries share, defined once, and the frozen configs that they turn into.

Two binaries that define the same flag can't be imported into one process; here each is defined
once, and a binary names those that its `--help` is to show with `use`.
"""

import dataclasses
import pathlib
import sys

from absl import flags

from thesis_tf.hardware import DISTRIBUTIONS, PRECISIONS, Hardware

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "dataset",
    "mnist_mini",
    "mnist_mini (bundled), mnist, fashion_mnist, cifar10, cifar100, svhn, tfds:NAME, an .npz file"
    " with x_train, y_train (and x_validation, x_test, ...), or a folder of images by class. Where"
    " no labels are needed (bin.dae, bin.gsn) also spiral, spiral15, manifold10d, manifold10d_25,"
    " or an .npz with x.",
)
flags.DEFINE_string("data_dir", None, "Folder with mnist.npz, cifar10.npz, train_32x32.mat, ...")
flags.DEFINE_list(
    "examples",
    None,
    "How many training, validation and test examples to draw, e.g. 5000,1000,1000. Default: all.",
)
flags.DEFINE_string(
    "model",
    "mnist_convnet",
    "mnist_convnet, lenet, mlp, issgd_mlp, skip_mlp, resnet50, resnet101, resnet152, vgg16, vgg19,"
    " inception_v3, or a .keras file (loaded in safe mode; to train it, one that puts out logits).",
)
flags.DEFINE_list(
    "weights",
    "none",
    "none, imagenet, or a .weights.h5 file; bin.probe compares several, with commas.",
)
flags.DEFINE_integer(
    "image_size", None, "Side to which a backbone resizes images. Default: 224, or 299 (Inception)."
)
flags.DEFINE_enum(
    "preprocessing",
    "default",
    ["default", "caffe", "tf", "unit"],
    "What a backbone does to pixels: caffe (BGR minus mean), tf (in [-1, 1]), unit (in [0, 1]), or"
    " the network's own.",
)
flags.DEFINE_bool("auxiliary_head", False, "Inception v3 with its auxiliary head on mixed7.")
flags.DEFINE_enum("distribution", "none", DISTRIBUTIONS, "Which devices to use.")
flags.DEFINE_integer("num_virtual_devices", 0, "Logical devices to cut the CPU into, to try.")
flags.DEFINE_enum("precision", "float32", PRECISIONS, "Of computation; weights stay float32.")
flags.DEFINE_integer(
    "seed",
    0,
    "Seeds initial weights, data order, dropout and random features.",
    lower_bound=0,
    upper_bound=2**32 - 1,
)
flags.DEFINE_bool("deterministic", False, "Deterministic TensorFlow kernels; slower on GPUs.")
flags.DEFINE_string("tpu", "", "TPU of --distribution=tpu: name or address; local on its machine.")
flags.DEFINE_string(
    "output_dir", None, "Folder for all that is written. Default: runs/NAME_OF_PROGRAM."
)
flags.DEFINE_bool("overwrite", False, "Empty --output_dir if it holds another run.")
flags.DEFINE_integer("batch_size", 128, "Examples a step, over all devices.", lower_bound=1)
flags.DEFINE_integer(
    "epochs",
    None,
    "Passes over the training examples. Default: 5; bin.gsn 25; bin.probe 0 for a trained network.",
    lower_bound=0,
)
flags.DEFINE_enum("optimizer", "adam", ["adam", "sgd", "rmsprop"], "How to train.")
flags.DEFINE_float("learning_rate", 1e-3, "Of the optimizer.", lower_bound=0.0)
flags.DEFINE_integer("checkpoint_every", 500, "Steps between checkpoints.", lower_bound=1)
flags.DEFINE_list("snapshots", [], "Steps whose weights are kept for good, e.g. 0,100,1000.")
flags.DEFINE_integer(
    "chains",
    2000,
    "Chains that run side by side; 0 for none, where a program can do without.",
    lower_bound=0,
)
flags.DEFINE_integer("chain_steps", 2000, "Steps of each chain.", lower_bound=1)

DATA = ("dataset", "data_dir", "examples")
MODEL = ("model", "weights", "image_size", "preprocessing", "auxiliary_head")
HARDWARE = (
    "distribution", "num_virtual_devices", "precision", "seed", "deterministic", "tpu",
)  # fmt: skip
TRAINING = (
    "batch_size", "epochs", "optimizer", "learning_rate", "checkpoint_every", "snapshots",
)  # fmt: skip
OUTPUT = ("output_dir", "overwrite")
CHAINS = ("chains", "chain_steps")


def _check_examples(value):
    return value is None or (len(value) == 3 and all(n.isdigit() and int(n) > 0 for n in value))


flags.register_validator(
    "examples", _check_examples, "must be three positive numbers, e.g. 5000,1000,1000"
)
flags.register_validator(
    "snapshots", lambda steps: all(step.isdigit() for step in steps), "must be steps, e.g. 0,100"
)
flags.register_validator(
    "tpu",
    lambda tpu: bool(tpu) == (FLAGS["distribution"].value == "tpu"),
    "--distribution=tpu needs a TPU's name or address, or local; others have none",
)


def use(module, *groups):
    """Makes groups of the flags above show in `--help` of a binary.

    Args:
        module: the binary's `__name__`.
        *groups: tuples of flag names.
    """
    # absl knows the main module by the name of its file.
    module = sys.argv[0] if module == "__main__" else module
    for name in (name for group in groups for name in group):
        FLAGS.register_key_flag_for_module(module, FLAGS[name])


@dataclasses.dataclass(frozen=True)
class Data:
    """Which examples."""

    dataset: str
    data_dir: str | None
    examples: tuple | None
    seed: int

    def load(self):
        """Returns the `Splits`; raises before anything long if they can't be had."""
        from thesis_tf import datasets

        if self.dataset in set(datasets.INPUT_NAMES) - set(datasets.NAMES):
            raise ValueError(
                f"--dataset={self.dataset} has no labels, which this program needs. bin.dae and"
                " bin.gsn learn from it."
            )
        splits = datasets.load(self.dataset, data_dir=self.data_dir, seed=self.seed)
        if self.examples:
            train, validation, test = self.examples
            try:
                splits = splits.take(train=train, validation=validation, test=test, seed=self.seed)
            except ValueError as error:
                raise ValueError(f"--examples asks for more than there is: {error}") from None
        return splits

    def load_inputs(self):
        """Returns the `Splits` of examples without labels; raises if they can't be had."""
        from thesis_tf import datasets

        return datasets.load_inputs(
            self.dataset, data_dir=self.data_dir, examples=self.examples, seed=self.seed
        )


@dataclasses.dataclass(frozen=True)
class Model:
    """Which network."""

    model: str
    weights: str
    image_size: int | None
    preprocessing: str
    auxiliary_head: bool

    def build(self, input_shape, num_classes):
        """Returns the Keras model."""
        import models

        return models.build(
            self.model,
            tuple(input_shape),
            num_classes,
            weights=self.weights,
            image_size=self.image_size,
            preprocessing=None if self.preprocessing == "default" else self.preprocessing,
            auxiliary_head=self.auxiliary_head,
        )


@dataclasses.dataclass(frozen=True)
class Training:
    """How to train.

    Attributes:
        epochs: passes over the training examples; each leaves out the last partial batch.
        batch_size: examples a step, over all devices.
        optimizer: "adam", "sgd" or "rmsprop".
        learning_rate: the optimizer's.
        checkpoint_every: steps between checkpoints, besides the one at each epoch's end.
        snapshots: steps at which the weights are kept for good.
    """

    epochs: int
    batch_size: int = 128
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    checkpoint_every: int = 500
    snapshots: tuple = ()


def expanded(path):
    """Returns a path with its ~, which a shell leaves alone in --weights=~/x, in full."""
    return str(pathlib.Path(path).expanduser()) if path.startswith("~") else path


def data():
    """The `Data` that the flags ask for."""
    examples = tuple(int(n) for n in FLAGS.examples) if FLAGS.examples else None
    return Data(FLAGS.dataset, FLAGS.data_dir and expanded(FLAGS.data_dir), examples, FLAGS.seed)


def models():
    """The `Model`s that the flags ask for, one for each of `--weights`."""
    return tuple(
        Model(
            expanded(FLAGS.model),
            expanded(weights),
            FLAGS.image_size,
            FLAGS.preprocessing,
            FLAGS.auxiliary_head,
        )
        for weights in FLAGS.weights
    )


def training(epochs):
    """The `Training` that the flags ask for; `epochs` has another default in each binary."""
    return Training(
        epochs,
        FLAGS.batch_size,
        FLAGS.optimizer,
        FLAGS.learning_rate,
        FLAGS.checkpoint_every,
        tuple(int(step) for step in FLAGS.snapshots),
    )


def hardware():
    """The `Hardware` that the flags ask for."""
    return Hardware(**{name: FLAGS[name].value for name in HARDWARE})
