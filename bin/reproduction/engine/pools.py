"""Pools in which figures are computed: processes of this machine, or a Ray cluster.

Each figure has a separate process. So if a process dies, the others continue, and the state that a
figure leaves in TensorFlow or Keras doesn't affect other figures.
"""

import contextlib
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from bin.common import roots
from bin.reproduction.engine import task as tasks
from bin.reproduction.engine.catalogue import Figure
from bin.reproduction.engine.task import Failure, Task


class LocalPool:
    """Processes of this machine."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._running: dict[Figure, tuple[Any, Any]] = {}

    def start(self, task: Task) -> None:
        """Starts a task."""
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=_send_work, args=(task, sender), name=task.figure.slug, daemon=True
        )
        with _environment(task.environment()):
            process.start()
        sender.close()
        self._running[task.figure] = process, receiver

    def finished(self, timeout: float) -> dict[Figure, Failure | None]:
        """Waits for something to end; returns {figure: None or what went wrong}, perhaps empty."""
        handles = {p.sentinel: figure for figure, (p, _) in self._running.items()}
        done: dict[Figure, Failure | None] = {}
        for sentinel in multiprocessing.connection.wait(list(handles), timeout):
            figure = handles[sentinel]
            process, receiver = self._running.pop(figure)
            process.join()
            done[figure] = _outcome(process, receiver)
        return done

    def stop(self) -> None:
        """Ends what still runs."""
        for process, _ in self._running.values():
            process.kill()
            process.join()
        self._running.clear()


def _outcome(process: Any, receiver: Any) -> Failure | None:
    with receiver:
        try:
            outcome: Failure | None = receiver.recv()
            return outcome
        except EOFError:
            status = process.exitcode
    if status >= 0:
        return Failure(f"The process ended with exit status {status}.")
    name = signal.Signals(-status).name
    why = " It may have had too little memory." if name == "SIGKILL" else ""
    return Failure(f"The process was ended by {name}.{why}")


def _send_work(task: Task, sender: Any) -> None:
    # The parent handles Ctrl-C. If the parent is killed, this process must end without its help.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    sender.send(tasks.work(task))
    sys.stdout.flush()


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables for processes that are started within this context."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class RayPool:
    """Processes of a Ray cluster whose machines share the folder of the cache.

    Args:
        address: the address of the cluster: auto, local, HOST:PORT or ray://HOST:PORT.

    Raises:
        ValueError: Ray is not installed.
        ConnectionError: no cluster answers at this address.
    """

    def __init__(self, address: str) -> None:
        try:
            import ray
        except ImportError:
            raise ValueError(
                "--ray_address requires Ray: pip install 'thesis_tf[ray]' or pip install ray."
            ) from None
        _see_that_it_answers(address)
        self._ray = ray
        self._running: dict[Any, Figure] = {}
        try:
            # Ray copies this checkout's code to the machines; they must have its dependencies.
            ray.init(
                address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"working_dir": str(roots.programs()), "excludes": _NOT_CODE},
            )
        except (ConnectionError, ValueError) as error:
            why: object = error
            if address == "auto":
                why = "no cluster runs on this machine"
            elif address != "local" and ":" not in address:
                why = "it must be auto, local, HOST:PORT or ray://HOST:PORT"
            raise _no_cluster(address, why) from None
        self._work = ray.remote(max_calls=1, max_retries=0)(tasks.work)

    def start(self, task: Task) -> None:
        """Starts a task."""
        remote = self._work.options(
            num_cpus=task.threads,
            name=task.figure.slug,
            runtime_env={"env_vars": task.environment()},
        )
        self._running[remote.remote(task)] = task.figure

    def finished(self, timeout: float) -> dict[Figure, Failure | None]:
        """Waits for something to end; returns {figure: None or what went wrong}, perhaps empty."""
        ended, _ = self._ray.wait(list(self._running), timeout=timeout)
        done: dict[Figure, Failure | None] = {}
        for reference in ended:
            figure = self._running.pop(reference)
            try:
                done[figure] = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                said = str(error).strip().splitlines()
                done[figure] = Failure(f"Ray: {said[0]}", "\n".join(said[-12:]))
        return done

    def stop(self) -> None:
        """Ends the running tasks and disconnects from the cluster."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._running.clear()
        self._ray.shutdown()


def _see_that_it_answers(address: str) -> None:
    """Raises ConnectionError if nothing listens at HOST:PORT; Ray would retry for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return  # auto, local
    try:
        socket.create_connection((host, int(port)), timeout=_PATIENCE).close()
    except OSError as error:
        raise _no_cluster(address, f"nothing answers there ({error})") from None


def _no_cluster(address: str, why: object) -> ConnectionError:
    return ConnectionError(
        f"--ray_address={address}: {why}. Start a cluster with `ray start --head`, or leave the"
        " flag out."
    )


_PATIENCE = 10  # seconds
# Not ".*", by which Ray 2.60 excludes the folder itself.
_NOT_CODE = ["docs", "runs", "tests", "benchmarks", ".?*", "**/__pycache__"]
