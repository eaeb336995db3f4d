"""Speed and limits of the stores of importance-sampling SGD, relative to a plain socket.

For each kind of store, with a separate local `redis-server` for redis, it measures

    pull        570,000 weights in 279 blocks into an array that is reused
    pull new    the same into a new array
    push        a block of 2,048
    lease       a block, and releases it
    head        the current version
    fetch       76 MB of parameters into an array that is reused
    raw socket  the same bytes from another process by `recv_into`, alternating with `fetch`
    publish     76 MB

and prints medians; `x raw` is the median over the rounds of fetch / raw. Then one process publishes
and two read for `--torn_seconds`, and every byte that they read is checked.

With `--scale`, processes lease and push blocks, each after a simulated time of computing
(`--compute_ms`), then without any, and then fetch parameters: weights/s and GB/s by the number of
processes.

    python -m benchmarks.issgd_store
    python -m benchmarks.issgd_store --stores=redis --torn_seconds=0 --scale
"""

import argparse
import contextlib
import itertools
import multiprocessing
import random
import socket
import statistics
import subprocess
import tempfile
import time
import uuid

import numpy as np

from thesis_tf.issgd.stores import RunSpec, open_store

EXAMPLES, BLOCK, BYTES = 570_000, 2_048, 76_000_000
SPEC = RunSpec("model", "data", (("train", EXAMPLES),), BYTES, block_size=BLOCK)
# Forked, so that children don't import everything again. (memory:// is for threads only.)
CONTEXT = multiprocessing.get_context("fork")
PROCESSES = (1, 2, 4, 8)


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stores", default="memory,shm,redis", help="kinds of stores")
    parser.add_argument("--redis_url", help="an existing server, instead of a new one")
    parser.add_argument("--rounds", type=int, default=21, help="rounds, of which medians are shown")
    parser.add_argument("--torn_seconds", type=float, default=60, help="of publishing and reading")
    parser.add_argument("--scale", action="store_true", help="measure many processes, too")
    parser.add_argument("--compute_ms", type=float, default=20, help="simulated time of a block")
    parser.add_argument("--scale_seconds", type=float, default=3, help="for each number")
    return parser.parse_args()


@contextlib.contextmanager
def redis_server():
    """Yields the URL of a server on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
        process = subprocess.Popen([*command, "--dir", folder], stdout=subprocess.PIPE)
        try:
            for line in process.stdout:
                if b"Ready to accept connections" in line:
                    break
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def raw_socket(values):
    """Yields a function that has another process send `values`, and receives them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            while connection.recv(1):
                connection.sendall(values)

        process = CONTEXT.Process(target=serve, daemon=True)
        process.start()
        with socket.create_connection(listener.getsockname()) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def receive(out):
                view = memoryview(out)
                connection.sendall(b"x")
                while len(view):
                    view = view[connection.recv_into(view) :]

            yield receive
        process.join()


def milliseconds(function):
    start = time.perf_counter()
    function()
    return 1e3 * (time.perf_counter() - start)


def median_of(function, times):
    function()
    return statistics.median(milliseconds(function) for _ in range(times))


def lease_and_release(store):
    store.release("train", store.lease("train", "w", 60), "w")


def measure(store, rounds):
    """Returns {name: median milliseconds}, and the ratio to the raw socket."""
    rng = np.random.default_rng(0)
    weights = rng.random(BLOCK, np.float32)
    values = rng.integers(0, 256, BYTES, np.uint8)
    out, kept = np.zeros(BYTES, np.uint8), np.zeros(EXAMPLES, np.float32)
    versions = itertools.count()
    for block in range(store.num_blocks("train")):
        start, stop = store.block_range("train", block)
        store.push("train", block, weights[: stop - start], 0, "w", 0.0, 0.0)
    found = {
        "pull": median_of(lambda: store.pull("train", out=kept), 10 * rounds),
        "pull new": median_of(lambda: store.pull("train"), 10 * rounds),
        "push": median_of(lambda: store.push("train", 7, weights, 0, "w", 0.0, 0.0), 100 * rounds),
        "lease": median_of(lambda: lease_and_release(store), 50 * rounds) / 2,
        "publish": median_of(lambda: store.publish(values, next(versions)), rounds),
        "head": median_of(store.head, 50 * rounds),
    }
    turns = {"fetch": [], "raw socket": []}
    with raw_socket(values) as receive:
        ways = {"fetch": lambda: store.fetch(out=out), "raw socket": lambda: receive(out)}
        for _ in range(rounds):
            for name in random.sample(sorted(ways), 2):
                out[:] = 0
                turns[name].append(milliseconds(ways[name]))
                if not np.array_equal(out, values):
                    raise AssertionError(f"{name} did not bring what was sent")
    found.update({name: statistics.median(times) for name, times in turns.items()})
    ratios = [a / b for a, b in zip(turns["fetch"], turns["raw socket"], strict=True)]
    return found, statistics.median(ratios)


def run_processes(place, jobs, seconds):
    """Runs job(store) repeatedly, in one process per job; returns the sums of results."""
    barrier, sums = CONTEXT.Barrier(len(jobs) + 1), CONTEXT.Array("d", len(jobs))

    def work(index, job):
        with open_store(place[0], run_id=place[1]) as store:
            store.join(SPEC)
            step = job(store, f"process {index}")
            barrier.wait()
            until = time.perf_counter() + seconds
            while time.perf_counter() < until:
                sums[index] += step()

    processes = [CONTEXT.Process(target=work, args=item, daemon=True) for item in enumerate(jobs)]
    for process in processes:
        process.start()
    barrier.wait()
    for process in processes:
        process.join()
        if process.exitcode:
            raise AssertionError("a process failed")
    return list(sums)


def publishing(store, _):
    versions = itertools.count((store.head() or 0) + 1)
    values = np.empty(BYTES, np.uint8)

    def step():
        version = next(versions)
        values[:] = version % 251
        store.publish(values, version)
        return 1

    return step


def reading_all(store, _):
    out = np.zeros(BYTES, np.uint8)

    def step():
        # 1 for each consistent read; an inconsistent read adds so much that no sum hides it.
        version = store.fetch(out=out).version
        return 1 if (out == version % 251).all() else 1e9

    return step


def fetching(store, _):
    out = np.zeros(BYTES, np.uint8)
    return lambda: store.fetch(out=out).values.nbytes


def pushing(compute):
    def make(store, name):
        weights = np.ones(BLOCK, np.float32)

        def step():
            block = store.lease("train", name, 60)
            if compute:
                time.sleep(compute)
            start, stop = store.block_range("train", block)
            store.push("train", block, weights[: stop - start], 0, name, 0.0, 0.0)
            return stop - start

        return step

    return make


def print_torn(place, seconds):
    with open_store(place[0], run_id=place[1]) as store:
        store.join(SPEC)
        version = store.head()
        store.publish(np.full(BYTES, version % 251, np.uint8), version)
    published, *read = run_processes(place, [publishing, reading_all, reading_all], seconds)
    torn, whole = divmod(sum(read), 1e9)
    print(
        f"  {seconds:.0f} s of publishing and reading by 3 processes: {published:.0f} versions,"
        f" {whole:.0f} readings, {torn:.0f} torn"
    )


def print_scale(place, compute_ms, seconds):
    print(f"  {'processes':44}" + "".join(f"{count:>12}" for count in PROCESSES))
    for name, make, unit, digits in (
        (f"weights/s at {compute_ms:g} ms a block", pushing(compute_ms / 1e3), 1, 0),
        ("weights/s without computing", pushing(0), 1, 0),
        ("GB/s of parameters", fetching, 1e9, 2),
    ):
        rates = [sum(run_processes(place, [make] * n, seconds)) / seconds for n in PROCESSES]
        print(f"  {name:44}" + "".join(f"{rate / unit:12,.{digits}f}" for rate in rates))


def report(url, arguments):
    place = url, f"benchmark-{uuid.uuid4().hex[:8]}"
    with open_store(place[0], run_id=place[1]) as store:
        store.create(SPEC)
        try:
            found, ratio = measure(store, arguments.rounds)
            print(f"{url.partition(':')[0]:12}" + "".join(f"{found[n]:11.3f}" for n in COLUMNS)
                  + f"{ratio:8.2f}")  # fmt: skip
            if url.startswith("memory"):
                return
            if arguments.torn_seconds:
                print_torn(place, arguments.torn_seconds)
            if arguments.scale:
                print_scale(place, arguments.compute_ms, arguments.scale_seconds)
        finally:
            store.delete()


COLUMNS = ("pull", "pull new", "push", "lease", "head", "publish", "fetch", "raw socket")


def main():
    arguments = parse_arguments()
    print(f"{EXAMPLES:,} weights in blocks of {BLOCK}, {BYTES / 1e6:.0f} MB of parameters; ms")
    print(f"{'':12}" + "".join(f"{name:>11}" for name in COLUMNS) + f"{'x raw':>8}")
    for kind in arguments.stores.split(","):
        if kind in ("memory", "shm"):
            report(f"{kind}://benchmark-{uuid.uuid4().hex[:8]}", arguments)
        elif arguments.redis_url:
            report(arguments.redis_url, arguments)
        else:
            with redis_server() as url:
                report(url, arguments)


if __name__ == "__main__":
    main()
