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

from absl import app, flags

from bin import flags_common, issgd_common, runs

FLAGS = flags.FLAGS
flags.DEFINE_enum("mode", "relaxed", ["relaxed", "exact", "uniform"], "How it synchronises.")
flags.DEFINE_integer("local_workers", 0, "Workers to run on this machine.", lower_bound=0)
flags_common.use(
    __name__,
    *issgd_common.TRAINER,
    flags_common.HARDWARE,
)


@dataclasses.dataclass(frozen=True)
class Config(issgd_common.Config):
    """What a master's run is."""

    mode: str


def config_from_flags():
    """Reads FLAGS; raises runs.UsageError for a combination that makes no sense."""
    if FLAGS.distribution not in ("none", "mirrored", "tpu"):
        raise runs.UsageError("One master trains, on one machine: --distribution=none or mirrored.")
    if FLAGS.mode == "uniform" and FLAGS.local_workers:
        raise runs.UsageError("--mode=uniform has no use for --local_workers.")
    return Config.from_flags(mode=FLAGS.mode)


def run(config, folder, begin=lambda: None):
    """Trains as `config` and the flags that may change from call to call say.

    Those are --store, --local_workers, --steps and --max_seconds.

    Args:
        config: a `Config`.
        folder: where to write.
        begin: called once all is known to fit, before anything is written.

    Returns:
        The metrics on the test examples.
    """
    url = issgd_common.store_url(issgd_common.place_of(folder) if FLAGS.local_workers else None)
    from bin import issgd_reports
    from thesis_tf import distribution, issgd

    data, classes = config.run.load()
    strategy = distribution.configure(config.hardware)
    with strategy.scope():
        model = config.run.build(data, classes)
        config.training.compile(model)
    proposal = config.draws.proposal(len(data["train"][1]), config.hardware.seed)
    proposal.uniform = config.mode == "uniform"
    reports = issgd_reports.Reports(folder)
    options = config.training.options(folder, reports.write)
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
            if url != issgd_common.place_of(folder):
                raise
            # Left by a run that was killed and overwritten; nobody else meets here.
            store.delete()
            master = issgd.Master(model, data, store, proposal, **options)
    workers = issgd_common.LocalWorkers(FLAGS.local_workers, folder, url)
    with issgd_common.stopping() as asked, workers:

        def stop():
            if FLAGS.local_workers and not workers.look() and config.mode == "exact":
                raise runs.UsageError("--mode=exact waits for workers, and all of them ended.")
            return asked()

        history = master.train(FLAGS.steps, seconds=FLAGS.max_seconds, stop=stop, progress=True)
    if store is not None and url == issgd_common.place_of(folder):
        store.delete()
    elif store is not None:
        issgd_common.say_what_stays(url, config.run.run_id)
    return reports.finish(model, history, data["test"])


def main(argv):
    """Flags, config, run."""
    with runs.clean_errors(argv), issgd_common.clean_store_errors():
        issgd_common.train(config_from_flags(), "runs/issgd_master", run)


if __name__ == "__main__":
    issgd_common.set_defaults()
    app.run(main)
