"""Compares the stores' bulk reads with redis-py, with and without hiredis.

Fetches 76 MB in chunks of 1 MiB over loopback, with two chunks requested in advance, and runs a
script with 8 KB. Methods run alternately; the table has medians and ratios to this library. A
`redis-server` must be on the PATH.

    python -m benchmarks.redis_client
"""

import argparse
import importlib.util
import random
import statistics
import time

import numpy as np
import redis
from redis.connection import Connection

from benchmarks.issgd_store import redis_server
from thesis_tf.issgd.stores.backends.redis.bulk import BulkConnection
from thesis_tf.issgd.stores.backends.redis.client import Client
from thesis_tf.issgd.stores.backends.redis.scripts import SET_FINISHED

BYTES, CHUNK, AHEAD = 76_000_000, 1 << 20, 2


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=21, help="rounds, of which medians are shown")
    return parser.parse_args()


def compare(title, functions, rounds):
    """Prints the median milliseconds of functions, and their ratio to the first one."""
    taken = {name: [] for name in functions}
    for function in functions.values():
        function()
    for _ in range(rounds):
        for name in random.sample(sorted(functions), len(functions)):
            start = time.perf_counter()
            functions[name]()
            taken[name].append(1e3 * (time.perf_counter() - start))
    first = next(iter(functions))
    print(title)
    for name, times in taken.items():
        ratio = statistics.median(a / b for a, b in zip(times, taken[first], strict=True))
        print(f"  {name:24} {statistics.median(times):9.3f} ms  {ratio:5.2f}")


def main():
    arguments = parse_arguments()
    with redis_server() as url:
        server = redis.Redis.from_url(url)
        port = server.get_connection_kwargs()["port"]
        values = np.random.default_rng(0).integers(0, 256, BYTES, np.uint8)
        out = np.zeros(BYTES, np.uint8)
        chunks = [out[at : at + CHUNK] for at in range(0, BYTES, CHUNK)]
        keys = [f"chunk{number}" for number in range(len(chunks))]
        for number, key in enumerate(keys):
            server.set(key, values[number * CHUNK : (number + 1) * CHUNK].tobytes())

        bulk = BulkConnection({"host": "127.0.0.1", "port": port}, tls=False)

        def fetch_ours():
            bulk.ask(*keys[:AHEAD])
            for number, chunk in enumerate(chunks):
                bulk.receive_into(chunk.data)
                bulk.ask(*keys[number + AHEAD : number + AHEAD + 1])

        def fetch_by(**settings):
            connection = Connection(host="127.0.0.1", port=port, protocol=2, **settings)
            connection.connect()

            def fetch():
                for key in keys[:AHEAD]:
                    connection.send_command("GET", key)
                for number, chunk in enumerate(chunks):
                    chunk[:] = np.frombuffer(connection.read_response(), np.uint8)
                    for key in keys[number + AHEAD : number + AHEAD + 1]:
                        connection.send_command("GET", key)

            return fetch

        def fetch_one_by_one():
            for key, chunk in zip(keys, chunks, strict=True):
                chunk[:] = np.frombuffer(server.get(key), np.uint8)

        ways = {
            "BulkConnection": fetch_ours,
            "redis-py": fetch_by(),
            "redis-py, reads of 1 MiB": fetch_by(socket_read_size=1 << 20),
            "redis.Redis.get": fetch_one_by_one,
        }
        for name, function in ways.items():
            out[:] = 0
            function()
            if not np.array_equal(out, values):
                raise AssertionError(f"{name} did not bring what was sent")
        found = importlib.util.find_spec("hiredis") is not None
        compare(f"76 MB ({'with' if found else 'without'} hiredis)", ways, arguments.rounds)

        client, argument = Client(url, url), bytes(8192)
        registered = server.register_script(SET_FINISHED.text)
        server.set("run", "0" * 16)
        compare(
            "A script with 8 KB",
            {
                "Client.script": lambda: client.script(
                    SET_FINISHED, ["run", "finished"], ["0" * 16, argument]
                ),
                "register_script": lambda: registered(["run", "finished"], ["0" * 16, argument]),
            },
            50 * arguments.rounds,
        )


if __name__ == "__main__":
    main()
