"""Trains beside others of its kind, which share gradient norms and parameters (thesis, 7.6).

Every peer trains; there is no master and no worker. Start as many as you like, each with its own
--peer_name (and with it its own folder and draws), all with the same --run_id:

    python -m bin.issgd_peer --peer_name=a &
    python -m bin.issgd_peer --peer_name=b

They push the norms of the examples that they train on, draw by all peers' norms, and every
--exchange_every synchronisations average their parameters with another peer's, chosen at random.
The same command after a kill goes on; a peer that joins late begins with another's parameters. It
writes to --output_dir what bin.issgd_master does.
"""

import dataclasses
import functools
import re
import zlib

from absl import app, flags

from bin.common import configs, runs
from bin.jobs.issgd import common

FLAGS = flags.FLAGS
flags.DEFINE_string("peer_name", None, "A name of its own: letters, digits, '.', '_', '-'.")
flags.DEFINE_integer("exchange_every", 1, "Synchronisations between averages of parameters.", 1)
flags.DEFINE_float("share", 0.5, "How far parameters move towards the other peer's.", 0.0, 1.0)
flags.register_validator(
    "peer_name",
    lambda name: name is None or bool(re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name)),
    "must be 1 to 64 letters, digits, '.', '_' or '-'",
)
configs.use(
    __name__,
    *common.TRAINER,
    ("num_virtual_devices", "precision", "seed", "deterministic"),
)


@dataclasses.dataclass(frozen=True)
class Config(common.Config):
    """What a peer's run is."""

    peer_name: str
    exchange_every: int
    share: float


def config_from_flags():
    """Reads FLAGS; raises runs.UsageError for what makes no sense."""
    if not FLAGS.peer_name:
        raise runs.UsageError("--peer_name is needed: a name that no other peer of the run has.")
    return Config.from_flags(
        peer_name=FLAGS.peer_name, exchange_every=FLAGS.exchange_every, share=FLAGS.share
    )


def run(config, call, folder, url, *, begin=lambda: None):
    """Trains and writes to a folder; returns the metrics on the test examples."""
    from bin.jobs.issgd import reports
    from thesis_tf import hardware, issgd

    data, classes = config.run.load()
    hardware.configure(config.hardware)
    model = config.run.build(data, classes)
    config.training.compile(model)
    seed = zlib.crc32(f"{config.hardware.seed} {config.peer_name}".encode())
    report = reports.Reports(folder)
    begin()
    peer = issgd.Peer(
        model,
        data,
        issgd.open_store(url, config.run.run_id),
        config.peer_name,
        config.draws.proposal(len(data["train"][1]), seed),
        exchange_every=config.exchange_every,
        share=config.share,
        block_size=config.run.block_size,
        **config.training.options(call, folder, report.write),
    )
    with common.stopping() as stop:
        history = peer.train(call.steps, seconds=call.max_seconds, stop=stop, progress=True)
    common.say_what_stays(url, config.run.run_id)
    return report.finish(model, history, data["test"])


def main(argv):
    """Flags, config, run."""
    with runs.clean_errors(argv), common.clean_store_errors():
        config = config_from_flags()
        start = functools.partial(run, url=common.store_url())
        common.train(config, f"runs/issgd_peer_{config.peer_name}", start)


if __name__ == "__main__":
    common.set_defaults()
    app.run(main)
