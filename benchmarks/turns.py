"""Runs methods alternately, each in a separate process, while the others sleep."""

import importlib
import importlib.util
import multiprocessing
import os
import time

PAUSE = 0.3  # seconds in which the other process' threads stop spinning and free the cores


def apply(function, *arguments):
    """Calls a function in a separate process, so that TensorFlow's threads end with it."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def take(module, ways, arguments, turns):
    """Measures the methods in a module's table `WAYS`, alternately.

    Args:
        module: the name of the module whose `WAYS` is {method: (make, required package or None)}.
            `make(*arguments)` returns (run, value): a function that computes, and a function from
            its result to a number that shows whether methods compute the same.
        ways: names of methods; those whose package is not installed are skipped, with a message.
        arguments: the arguments of `make`.
        turns: the number of counted rounds; an additional first round warms up.

    Returns:
        ({method: [seconds of each round]}, {method: value}).
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    context = multiprocessing.get_context("spawn")
    table = importlib.import_module(module).WAYS
    processes, connections, values = {}, {}, {}
    for way in ways:
        needs = table[way][1]
        if needs and importlib.util.find_spec(needs) is None:
            print(f"{way}: {needs} is not installed")
            continue
        here, there = context.Pipe()
        process = context.Process(target=_work, args=(module, way, arguments, there), daemon=True)
        process.start()
        there.close()  # so that a failed process raises an error here instead of an endless wait
        processes[way], connections[way], values[way] = process, here, here.recv()
    seconds = {way: [] for way in connections}
    for turn in range(turns + 1):
        for way, connection in connections.items():
            time.sleep(PAUSE)
            connection.send(True)
            taken = connection.recv()
            if turn:
                seconds[way].append(taken)
    for connection in connections.values():
        connection.send(False)
    for process in processes.values():
        process.join()
    return seconds, values


def _work(module, way, arguments, connection):
    run, value = importlib.import_module(module).WAYS[way][0](*arguments)
    connection.send(value(run()))
    while connection.recv():
        start = time.perf_counter()
        run()
        connection.send(time.perf_counter() - start)
