"""Starts workers of a run on a Ray cluster, and restarts those that die.

    pip install 'ray[default]'
    export ISSGD_STORE=redis://:password@redis-host:6379/0
    python docs/issgd/ray_workers.py --workers=16 --gpus=1 -- \
        --run_id=r1 --dataset=cifar10 --data_dir=/data --model=issgd_mlp

Arguments after `--` are passed to bin.issgd_worker. The checkout must be in the same folder on
every node, with its dependencies installed. Without a cluster, Ray starts one on this machine.
"""

import argparse
import os
import subprocess
import sys

import ray


@ray.remote(max_retries=-1)
def work(folder, environment, flags):
    command = [sys.executable, "-m", "bin.issgd_worker", *flags]
    subprocess.run(command, cwd=folder, env={**os.environ, **environment}, check=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--cpus", type=float, default=1, help="CPUs per worker")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs per worker")
    parser.add_argument("flags", nargs="*", help="flags of bin.issgd_worker, after --")
    arguments = parser.parse_args()
    ray.init()
    task = work.options(num_cpus=arguments.cpus, num_gpus=arguments.gpus)
    environment = {"ISSGD_STORE": os.environ["ISSGD_STORE"]}
    tasks = [
        task.remote(os.getcwd(), environment, arguments.flags) for _ in range(arguments.workers)
    ]
    ray.get(tasks)


if __name__ == "__main__":
    main()
