"""What the importance-sampling programs share: their flags, and what these turn into.

Master, workers and peers of one run are given the same flags here; the store sees to it that they
are of one model and the same data.
"""

import contextlib
import dataclasses
import os
import pathlib
import re
import subprocess
import sys

from absl import flags

from bin import flags_common, runs

FLAGS = flags.FLAGS
ROOT = pathlib.Path(__file__).parents[1]
SCHEMES = ("shm", "redis", "rediss", "redis+cluster", "rediss+cluster")

flags.DEFINE_string(
    "store",
    None,
    "Where the processes meet: shm://NAME (one machine), redis://[user:password@]host:port/0,"
    " rediss:// (TLS), redis+cluster://. Default: $ISSGD_STORE, else shm://RUN_ID. A password is"
    " best left out of a command line: put the URL into $ISSGD_STORE.",
)
flags.DEFINE_string("run_id", "issgd", "Name of the run in the store.")
flags.DEFINE_integer("block_size", 2048, "Examples that a worker measures at once.", 1)
flags.DEFINE_float("momentum", 0.0, "Nesterov momentum, with --optimizer=sgd (thesis: .95).", 0, 1)
flags.DEFINE_integer("steps", 5000, "Steps to train, those before a kill included.", 1)
flags.DEFINE_integer("sync_every", 32, "Steps between synchronisations with the store.", 1)
flags.DEFINE_string(
    "smoothing",
    "relative:1",
    "What is added to every norm: a constant as in the thesis (10, 1), relative:1 (times the mean"
    " norm), uniform:.5 (a share of uniform draws), entropy:.5 (until that share of the examples"
    " counts).",
)
flags.DEFINE_integer("staleness", None, "How many steps old a norm may be. Default: any age.", 0)
flags.DEFINE_float("staleness_seconds", None, "How many seconds old a norm may be (thesis: 20).", 0)
flags.DEFINE_float("min_usable", 0.1, "Part of the norms without which draws are uniform.", 0, 1)

RUN = ("store", "run_id", "block_size")
DRAWS = ("smoothing", "staleness", "staleness_seconds", "min_usable")
TRAINING = (
    "batch_size", "optimizer", "learning_rate", "momentum", "steps", "sync_every",
    "checkpoint_every",
)  # fmt: skip

_SMOOTHING = re.compile(r"(?:(relative|uniform|entropy):)?(\d*\.?\d+)")


def _check_smoothing(value):
    return _SMOOTHING.fullmatch(value) is not None


flags.register_validator(
    "smoothing", _check_smoothing, "must be a number, relative:X, uniform:X or entropy:X"
)
flags.register_validator(
    "run_id",
    lambda name: bool(re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name)),
    "must be 1 to 64 letters, digits, '.', '_' or '-'",
)


@dataclasses.dataclass(frozen=True)
class Draws:
    """From which distribution examples are drawn."""

    smoothing: str
    staleness: int | None
    staleness_seconds: float | None
    min_usable: float

    def rule(self):
        """Returns the smoothing rule."""
        from thesis_tf.issgd import smoothing

        kind, number = _SMOOTHING.fullmatch(self.smoothing).groups()
        rules = {
            None: smoothing.Additive,
            "relative": smoothing.RelativeToMean,
            "uniform": smoothing.UniformMixture,
            "entropy": smoothing.TargetEntropy,
        }
        return rules[kind](float(number))

    def proposal(self, num_examples, seed):
        """Returns the `Proposal`."""
        from thesis_tf.issgd import Proposal

        return Proposal(
            num_examples,
            self.rule(),
            self.staleness,
            staleness_seconds=self.staleness_seconds,
            min_usable=self.min_usable,
            seed=seed,
        )


@dataclasses.dataclass(frozen=True)
class Training:
    """How to train."""

    batch_size: int
    optimizer: str
    learning_rate: float
    momentum: float
    steps: int
    sync_every: int
    checkpoint_every: int

    def compile(self, model):
        """Compiles a model for classification from logits."""
        import keras

        if self.optimizer == "sgd" and self.momentum:
            optimizer = keras.optimizers.SGD(self.learning_rate, self.momentum, nesterov=True)
        else:
            optimizer = keras.optimizers.get(
                {"class_name": self.optimizer, "config": {"learning_rate": self.learning_rate}}
            )
        model.compile(optimizer, loss())


@dataclasses.dataclass(frozen=True)
class Run:
    """What all processes of a run must agree on; the store's URL may hold a password."""

    data: flags_common.Data
    model: flags_common.Model
    run_id: str
    block_size: int

    def load(self):
        """Returns ({split: (x, y)}, number of classes)."""
        splits = self.data.load()
        data = {name: getattr(splits, name) for name in ("train", "valid", "test")}
        return {name: (split.x, split.y) for name, split in data.items()}, splits.num_classes

    def build(self, data, num_classes):
        """Returns the network."""
        classes = num_classes if self.model.weights == "none" else None
        return self.model.build(data["train"][0].shape[1:], classes)


def loss():
    """Cross entropy from logits: what master, workers and peers train or measure."""
    import keras

    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def set_defaults(**more):
    """Gives the flags the defaults of these programs, so that --help shows them."""
    for name, value in {"model": "mlp", "optimizer": "sgd", "learning_rate": 0.01, **more}.items():
        FLAGS.set_default(name, value)


def run_from_flags():
    """Reads FLAGS; raises runs.UsageError for a combination that makes no sense."""
    (model, *more) = flags_common.models()
    if more:
        raise runs.UsageError("--weights takes one value here.")
    if model.auxiliary_head:
        raise runs.UsageError("The loss is of one output: leave out --auxiliary_head.")
    return Run(flags_common.data(), model, FLAGS.run_id, FLAGS.block_size)


def draws_from_flags():
    """The `Draws` that the flags ask for."""
    return Draws(*(FLAGS[name].value for name in DRAWS))


def training_from_flags():
    """The `Training` that the flags ask for."""
    if FLAGS.momentum and FLAGS.optimizer != "sgd":
        raise runs.UsageError("--momentum is that of --optimizer=sgd.")
    return Training(*(FLAGS[name].value for name in TRAINING))


def store_url():
    """Where the processes meet; raises runs.UsageError before TensorFlow is loaded."""
    url = FLAGS.store or os.environ.get("ISSGD_STORE") or f"shm://{FLAGS.run_id}"
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        raise runs.UsageError(
            f"--store or $ISSGD_STORE must be a URL that begins with"
            f" {', '.join(f'{s}://' for s in SCHEMES)}. Received: {scheme[:20]}..."
        )
    return url


@contextlib.contextmanager
def local_workers(count, folder):
    """Runs workers on this machine, with this program's flags, while the block lasts.

    Each writes to `folder/worker_N.log`, and ends when this process does, however that ends.
    """
    names = (*flags_common.DATA, *flags_common.MODEL, "run_id", "block_size", "precision", "seed")
    given = [FLAGS[name].serialize() for name in names if FLAGS[name].present]
    # Not on the command line, where everybody could read a password.
    environment = {**os.environ, "ISSGD_STORE": store_url()}
    workers = []
    with contextlib.ExitStack() as logs:
        for number in range(1, count + 1):
            file = logs.enter_context((folder / f"worker_{number}.log").open("a"))
            own = [f"--worker_name=local-{number}", f"--parent={os.getpid()}"]
            command = [sys.executable, "-m", "bin.issgd_worker", *given, *own]
            workers.append(
                subprocess.Popen(command, env=environment, stdout=file, stderr=file, cwd=ROOT)
            )
        try:
            yield workers
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.wait()


@contextlib.contextmanager
def clean_store_errors():
    """Turns what a store says into an error that ends the program in one line."""
    try:
        yield
    except Exception as error:
        # Looked for by name: `--help` and wrong flags are to be answered without the package.
        if "StoreError" in [kind.__name__ for kind in type(error).__mro__]:
            raise runs.UsageError(str(error)) from error
        raise


def log(message):
    """Shows a line, above a progress bar if there is one."""
    import tqdm

    tqdm.tqdm.write(message, file=sys.stderr)
