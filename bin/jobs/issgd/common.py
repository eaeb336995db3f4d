"""What the importance-sampling programs share: their flags, and what these turn into.

Master, workers and peers of one run are given the same flags here; the store sees to it that they
are of one model and the same data.
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
import re
import signal
import subprocess
import sys
import zlib

from absl import flags

from bin.common import configs, runs

FLAGS = flags.FLAGS
ROOT = pathlib.Path(__file__).parents[3]
PATIENCE = 10.0  # seconds that local workers have to end
SCHEMES = ("shm", "redis", "rediss", "redis+cluster", "rediss+cluster")

flags.DEFINE_string(
    "store",
    None,
    "Where the processes meet: shm://NAME (one machine), redis://[user:password@]host:port/0,"
    " rediss:// (TLS), redis+cluster://. Default: $ISSGD_STORE, else shm://RUN_ID, or for"
    " bin.issgd_master --local_workers a place of its output folder's own. A password is best left"
    " out of a command line: put the URL into $ISSGD_STORE.",
)
flags.DEFINE_string("run_id", "issgd", "Name of the run in the store.")
flags.DEFINE_integer(
    "block_size",
    2048,
    "Examples of a block, of which one worker measures the norms at a time; the same for master,"
    " workers and peers of a run.",
    1,
)
flags.DEFINE_float("momentum", 0.0, "Nesterov momentum, with --optimizer=sgd (thesis: .95).", 0, 1)
flags.DEFINE_integer("steps", 5000, "Steps to train, those before a kill included.", 1)
flags.DEFINE_float(
    "max_seconds", None, "Seconds after which training ends, whatever --steps.", lower_bound=1e-3
)
flags.DEFINE_integer("sync_every", 32, "Steps between synchronisations with the store.", 1)
flags.DEFINE_string(
    "smoothing",
    "relative:1",
    "What is added to every norm: X, a constant >= 0 as in the thesis (10, 1); relative:X, X >= 0"
    " times the mean norm; uniform:X, so that a share X in [0, 1) of draws is uniform; entropy:X,"
    " until a share X in (0, 1] of the examples counts.",
)
flags.DEFINE_integer("staleness", None, "How many steps old a norm may be. Default: any age.", 0)
flags.DEFINE_float("staleness_seconds", None, "How many seconds old a norm may be (thesis: 20).", 0)
flags.DEFINE_float("min_usable", 0.1, "Part of the norms without which draws are uniform.", 0, 1)

RUN = ("store", "run_id", "block_size")
DRAWS = ("smoothing", "staleness", "staleness_seconds", "min_usable")
TRAINING = ("batch_size", "optimizer", "learning_rate", "momentum", "sync_every")
CALL = ("steps", "max_seconds", "checkpoint_every")
TRAINER = (
    configs.OUTPUT, configs.DATA, configs.MODEL, RUN, DRAWS, TRAINING, CALL
)  # fmt: skip

_SMOOTHING = re.compile(r"(?:(relative|uniform|entropy):)?(\d*\.?\d+)")


def _check_smoothing(value):
    found = _SMOOTHING.fullmatch(value)
    if found is None:
        return False
    number = float(found[2])
    return {"uniform": number < 1, "entropy": 0 < number <= 1}.get(found[1], True)


flags.register_validator(
    "smoothing",
    _check_smoothing,
    "must be X or relative:X with X >= 0, uniform:X with X in [0, 1), entropy:X with X in (0, 1]",
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
        from thesis_tf.issgd.sampling import smoothing

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
    sync_every: int

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

    def options(self, call, folder, on_sync):
        """Returns what masters and peers are told alike, {argument: value}."""
        return {
            "batch_size": self.batch_size,
            "sync_every": self.sync_every,
            "checkpoint_every": call.checkpoint_every,
            "folder": folder,
            "log": log,
            "on_sync": on_sync,
        }


@dataclasses.dataclass(frozen=True)
class Call:
    """What may be another from call to call of one run."""

    steps: int
    max_seconds: float | None
    checkpoint_every: int

    @classmethod
    def from_flags(cls):
        """Reads FLAGS."""
        return cls(*(FLAGS[name].value for name in CALL))


@dataclasses.dataclass(frozen=True)
class Run:
    """What all processes of a run must agree on; the store's URL may hold a password."""

    data: configs.Data
    model: configs.Model
    run_id: str
    block_size: int

    def load(self):
        """Returns ({split: (x, y)}, number of classes)."""
        splits = self.data.load()
        data = {name: getattr(splits, name) for name in ("train", "validation", "test")}
        return {name: (split.x, split.y) for name, split in data.items()}, splits.num_classes

    def build(self, data, num_classes):
        """Returns the network."""
        classes = num_classes if self.model.weights == "none" else None
        return self.model.build(data["train"][0].shape[1:], classes)


@dataclasses.dataclass(frozen=True)
class Config:
    """What a training is; a folder with an equal one holds the same, and it may go on."""

    run: Run
    draws: Draws
    training: Training
    hardware: configs.Hardware

    @classmethod
    def from_flags(cls, **more):
        """Reads FLAGS; raises runs.UsageError for a combination that makes no sense."""
        if FLAGS.momentum and FLAGS.optimizer != "sgd":
            raise runs.UsageError("--momentum is that of --optimizer=sgd.")
        draws, training = (
            kind(*(FLAGS[name].value for name in names))
            for kind, names in ((Draws, DRAWS), (Training, TRAINING))
        )
        return cls(run_from_flags(), draws, training, configs.hardware(), **more)


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
    (model, *more) = configs.models()
    if more:
        raise runs.UsageError("--weights takes one value here.")
    if model.auxiliary_head:
        raise runs.UsageError("The loss is of one output: leave out --auxiliary_head.")
    return Run(configs.data(), model, FLAGS.run_id, FLAGS.block_size)


def store_url(own=False):
    """Where the processes meet; raises runs.UsageError before TensorFlow is loaded.

    Args:
        own: whether to return None where neither flag nor environment say it, for a place that
            others don't know.
    """
    url = FLAGS.store or os.environ.get("ISSGD_STORE")
    if not url and own:
        return None
    url = url or f"shm://{FLAGS.run_id}"
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        raise runs.UsageError(
            f"--store or $ISSGD_STORE must be a URL that begins with"
            f" {', '.join(f'{s}://' for s in SCHEMES)}. Received: {scheme[:20]}..."
        )
    return url


def place_of(folder, run_id):
    """Shared memory that only a master with this output folder and its own workers use."""
    return f"shm://{run_id}-{zlib.crc32(os.fsencode(folder.resolve())):08x}"


def say_what_stays(url, run_id):
    """Tells how to free shared memory: others may still be using what is there."""
    if url.startswith("shm://"):
        free = f"from thesis_tf import issgd; issgd.open_store('{url}', '{run_id}').delete()"
        log(
            "The run stays in memory for others that use it. When all have ended, free it:"
            f' python -c "{free}"'
        )


class LocalWorkers:
    """Workers on this machine, with this program's flags, while a `with` lasts.

    Each writes to `folder/worker_N.log`, and ends when this process does, however that ends.

    Args:
        count: how many.
        folder: of the logs.
        url: where they meet the master.
    """

    def __init__(self, count, folder, url):
        self._count, self._url = count, url
        self._logs = [folder / f"worker_{n + 1}.log" for n in range(count)]
        self._workers, self._told = [], set()

    def __enter__(self):
        """Starts them."""
        names = (*configs.DATA, *configs.MODEL, "run_id", "block_size", "precision")
        given = [FLAGS[name].serialize() for name in (*names, "seed") if FLAGS[name].present]
        # Not on the command line, where everybody could read a password.
        environment = {**os.environ, "ISSGD_STORE": self._url}
        for number, log_file in enumerate(self._logs, 1):
            own = [f"--worker_name=local-{number}", f"--parent={os.getpid()}"]
            command = [sys.executable, "-m", "bin.issgd_worker", *given, *own]
            with log_file.open("a") as file:
                self._workers.append(
                    subprocess.Popen(command, env=environment, stdout=file, stderr=file, cwd=ROOT)
                )
        return self

    def __exit__(self, *_):
        """Ends them."""
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            try:
                worker.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()

    def look(self):
        """Tells once of each that ended by itself; returns whether any is left."""
        for number, worker in enumerate(self._workers):
            if worker.poll() is not None and number not in self._told:
                self._told.add(number)
                lines = self._logs[number].read_text(errors="replace").strip().splitlines()
                log(
                    f"Local worker {number + 1} ended (status {worker.returncode}; all is in"
                    f" {self._logs[number]}): {lines[-1] if lines else 'it said nothing.'}"
                )
        return len(self._told) < self._count


@contextlib.contextmanager
def stopping():
    """Yields a function that tells whether Ctrl-C or SIGTERM came; the next ends all at once.

    Raises:
        KeyboardInterrupt: at the end, if one came.
    """
    asked = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore():
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(*_):
        asked.append(True)
        restore()
        log("Stops at the next synchronisation, and saves; once more stops at once.")

    for number in before:
        signal.signal(number, ask)
    try:
        yield lambda: bool(asked)
    finally:
        restore()
    if asked:
        raise KeyboardInterrupt


def train(config, default_folder, run):
    """Claims the output folder, calls `run` and tells what came of it.

    Args:
        config: a `Config`.
        default_folder: where to write without --output_dir.
        run: called as `run(config, call, folder, begin=...)`, trains and returns the metrics on the
            test examples. It calls `begin` once all is known to fit, before it writes anything.
    """
    folder = runs.claim(FLAGS.output_dir or default_folder, config, FLAGS.overwrite)
    begin = functools.partial(runs.begin, folder, config)
    metrics = run(config, Call.from_flags(), folder, begin=begin)
    shown = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
    print(f"Test examples: {shown}. All is in {folder}.")


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
