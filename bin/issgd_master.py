r"""Trains by importance sampling, with workers that keep the examples' gradient norms fresh.

This is chapter 7 of the thesis. With no flags but --local_workers it trains the MLP on the bundled
data with workers of its own on this machine, which meet in shared memory: a minute on two cores.

    python -m bin.issgd_master --local_workers=2

On several machines, against one Redis; workers may start first, die and join late:

    export ISSGD_STORE=rediss://user:password@redis.example:6380/0
    python -m bin.issgd_master --run_id=r1 --dataset=cifar10 --data_dir=... --model=issgd_mlp
    python -m bin.issgd_worker --run_id=r1 --dataset=cifar10 --data_dir=... --model=issgd_mlp

As in the thesis (7.4; smoothing +10 and +1 there, 5,000 examples to validate):

    python -m bin.issgd_master --local_workers=3 --dataset=cifar10 --data_dir=... \
        --examples=45000,5000,10000 --model=issgd_mlp --optimizer=sgd --learning_rate=.01 \
        --momentum=.95 --smoothing=10 --staleness_seconds=20

With --mode=exact it waits, every --sync_every steps, until every norm is of the present parameters
(figure 7.1); with --mode=uniform it draws uniformly and needs no store, as a baseline. The same
command after a kill goes on from the last checkpoint, and one with more --steps after the end. It
writes to --output_dir:

    config.json, checkpoint.npz     the run, and where it goes on
    history.jsonl, logs/            a record every --sync_every steps; the same for TensorBoard
    training.png, traces.png        losses and errors over steps and time; figure 7.4
    model.keras, metrics.json       at the end
    worker_N.log                    of --local_workers
"""

import dataclasses
import functools

from absl import app, flags

from bin.common import configs, runs
from bin.jobs.issgd import common

FLAGS = flags.FLAGS
flags.DEFINE_enum("mode", "relaxed", ["relaxed", "exact", "uniform"], "How it synchronises.")
flags.DEFINE_integer("local_workers", 0, "Workers to run on this machine.", lower_bound=0)
configs.use(
    __name__,
    *common.TRAINER,
    configs.HARDWARE,
)


@dataclasses.dataclass(frozen=True)
class Config(common.Config):
    """What a master's run is."""

    mode: str


def config_from_flags():
    """Reads FLAGS; raises runs.UsageError for a combination that makes no sense."""
    if FLAGS.distribution not in ("none", "mirrored", "tpu"):
        raise runs.UsageError("One master trains, on one machine: --distribution=none or mirrored.")
    if FLAGS.mode == "uniform":
        why = "--mode=uniform draws without workers and weights"
        runs.refuse_given(("store", *common.DRAWS), why)
        runs.refuse(["local_workers"] * bool(FLAGS.local_workers), why)
    return Config.from_flags(mode=FLAGS.mode)


def run(config, call, folder, url=None, workers=0, *, begin=lambda: None):
    """Trains and writes to a folder.

    Args:
        config: a `Config`.
        call: an `issgd_common.Call`.
        folder: where to write.
        url: the store; None for shared memory of the folder's own.
        workers: how many to run on this machine.
        begin: called once all is known to fit, before anything is written.

    Returns:
        The metrics on the test examples.
    """
    own = common.place_of(folder, config.run.run_id)
    url = url or own
    from bin.jobs.issgd import reports
    from thesis_tf import hardware, issgd

    data, classes = config.run.load()
    strategy = hardware.configure(config.hardware)
    with strategy.scope():
        model = config.run.build(data, classes)
        config.training.compile(model)
    proposal = config.draws.proposal(len(data["train"][1]), config.hardware.seed)
    proposal.uniform = config.mode == "uniform"
    report = reports.Reports(folder)
    options = config.training.options(call, folder, report.write)
    begin()
    store = None
    if config.mode == "uniform":
        master = issgd.Trainer(model, data, proposal, **options)
    else:
        store = issgd.open_store(url, config.run.run_id)
        options |= {"exact": config.mode == "exact", "block_size": config.run.block_size}
        try:
            master = issgd.Master(model, data, store, proposal, **options)
        except issgd.stores.RunMismatchError:
            if url != own:
                raise
            # Left by a run that was killed and overwritten; nobody else meets here.
            store.delete()
            master = issgd.Master(model, data, store, proposal, **options)
    with common.stopping() as asked, common.LocalWorkers(workers, folder, url) as local:

        def stop():
            if workers and not local.look() and config.mode == "exact":
                raise runs.UsageError("--mode=exact waits for workers, and all of them ended.")
            return asked()

        history = master.train(call.steps, seconds=call.max_seconds, stop=stop, progress=True)
    if store is not None and url == own:
        store.delete()
    elif store is not None:
        common.say_what_stays(url, config.run.run_id)
    return report.finish(model, history, data["test"])


def main(argv):
    """Flags, config, run."""
    with runs.clean_errors(argv), common.clean_store_errors():
        config, workers = config_from_flags(), FLAGS.local_workers
        url = common.store_url(own=bool(workers))
        start = functools.partial(run, url=url, workers=workers)
        common.train(config, "runs/issgd_master", start)


if __name__ == "__main__":
    common.set_defaults()
    app.run(main)
