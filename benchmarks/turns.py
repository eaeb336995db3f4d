"""Ways to compute the same thing take turns, each in its own process, while the others sleep."""

import importlib
import importlib.util
import multiprocessing
import os
import time

PAUSE = 0.3  # seconds, in which the other's threads stop spinning for work and let the cores go


def apply(function, *arguments):
    """Calls a function in a process of its own, so that TensorFlow's threads end with it."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def take(module, ways, arguments, turns):
    """Measures ways of a module's table `WAYS`, turn by turn.

    Args:
        module: the name of the module whose `WAYS` is {way: (make, package that it needs or None)}.
            `make(*arguments)` returns (run, value): a function that computes, and one from its
            result to a number by which ways can be told to compute the same.
        ways: names of ways; those whose package is not installed are left out, with a line.
        arguments: of `make`.
        turns: how many are counted; one more comes first, to warm up.

    Returns:
        ({way: [seconds of each turn]}, {way: value}).
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
        there.close()  # so that a process that fails is an error here, not a wait without end
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
