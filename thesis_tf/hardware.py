"""Devices, precision and seeds, which are set once at the start of a program."""

import dataclasses
from typing import TYPE_CHECKING, Any

from thesis_tf._core import checks
from thesis_tf._core.seeds import checked_seed

if TYPE_CHECKING:
    import tensorflow as tf

DISTRIBUTIONS = ("none", "mirrored", "multi_worker", "tpu")
PRECISIONS = ("float32", "mixed_bfloat16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hardware:
    """The devices, the precision and the seed of a program.

    Attributes:
        distribution: "none" (one device), "mirrored" (all devices of this machine),
            "multi_worker" (all machines of the `TF_CONFIG` that TensorFlow reads from the
            environment) or "tpu".
        num_virtual_devices: the number of logical devices into which the CPU is divided, to test a
            mirrored program on a machine without accelerators; 0 for no division.
        precision: "float32", or "mixed_bfloat16": computes in bfloat16, keeps weights in float32.
        seed: seeds Python, NumPy and TensorFlow.
        deterministic: makes every TensorFlow operation deterministic, at some cost in speed.
        tpu: the TPU's name or address, for `distribution="tpu"`.
    """

    distribution: str = "none"
    num_virtual_devices: int = 0
    precision: str = "float32"
    seed: int = 0
    deterministic: bool = False
    tpu: str = ""

    def __post_init__(self) -> None:
        """Checks the fields before anything is set up."""
        checks.one_of("`distribution`", self.distribution, DISTRIBUTIONS)
        checks.one_of("`precision`", self.precision, PRECISIONS)
        checked_seed(self.seed)
        if not hasattr(self.num_virtual_devices, "__index__"):
            received = repr(self.num_virtual_devices)
            raise checks.invalid("`num_virtual_devices`", "an integer", received, kind=TypeError)
        if self.num_virtual_devices < 0:
            raise checks.invalid("`num_virtual_devices`", "at least 0", self.num_virtual_devices)


def configure(hardware: Hardware) -> "tf.distribute.Strategy":
    """Configures TensorFlow and Keras; must be called before anything is computed.

    Args:
        hardware: the devices, the precision and the seed.

    Returns:
        The `tf.distribute.Strategy` under whose `scope()` models must be built. For "none" it is
        TensorFlow's default strategy, whose scope has no effect.

    Raises:
        ValueError: `TF_CONFIG` doesn't list at least two workers.
        RuntimeError: virtual devices are requested after TensorFlow began to compute.
    """
    import keras
    import tensorflow as tf

    if hardware.distribution == "multi_worker":
        _check_cluster(tf)
    if hardware.num_virtual_devices:
        _split_cpu(tf, hardware.num_virtual_devices)
    keras.utils.set_random_seed(int(hardware.seed))
    keras.config.set_dtype_policy(hardware.precision)
    if hardware.deterministic:
        tf.config.experimental.enable_op_determinism()
    if hardware.distribution == "mirrored":
        gpus = [] if hardware.num_virtual_devices else tf.config.list_logical_devices("GPU")
        devices = gpus or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    if hardware.distribution == "multi_worker":
        return tf.distribute.MultiWorkerMirroredStrategy()
    if hardware.distribution == "tpu":
        try:
            resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect(hardware.tpu)
        except Exception as error:  # errors of look-ups, HTTP or gRPC, or no TPU in this machine
            raise checks.invalid(
                "`tpu`",
                "the name or address of a TPU that can be reached, or local on the TPU's machine",
                f"{hardware.tpu}, where {error}",
                kind=OSError,
            ) from error
        return tf.distribute.TPUStrategy(resolver)
    return tf.distribute.get_strategy()


def is_chief(strategy: "tf.distribute.Strategy") -> bool:
    """Returns whether this process is the one that writes files."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return True
    return bool(
        resolver.task_type == "chief"
        or (
            resolver.task_type == "worker"
            and resolver.task_id == 0
            and "chief" not in resolver.cluster_spec().jobs
        )
    )


def wait_for_all(strategy: "tf.distribute.Strategy") -> None:
    """Returns when every process of a multi-worker strategy has called it."""
    import tensorflow as tf

    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        strategy.reduce("SUM", strategy.run(lambda: tf.ones(())), axis=None)


def _check_cluster(tf: Any) -> None:
    example = (
        "For two machines, set it on each with that machine's index:"
        ' TF_CONFIG=\'{"cluster": {"worker": ["host0:12345", "host1:12345"]},'
        ' "task": {"type": "worker", "index": 0}}\''
    )
    try:
        cluster = tf.distribute.cluster_resolver.TFConfigClusterResolver().cluster_spec().as_dict()
        workers = len(cluster.get("chief", [])) + len(cluster.get("worker", []))
    except (ValueError, TypeError, AttributeError) as error:
        raise checks.invalid("`TF_CONFIG`", "JSON that names workers", error, example) from error
    if workers < 2:
        raise checks.invalid(
            "`TF_CONFIG`", "JSON that names at least two workers", f"{workers} workers", example
        )


def _split_cpu(tf: Any, count: int) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    configured = tf.config.get_logical_device_configuration(cpu)
    if configured is not None and len(configured) == count:
        return
    try:
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * count
        )
    except RuntimeError as error:
        raise RuntimeError(
            f"The CPU can't be divided into {count} virtual devices any more: TensorFlow has begun"
            " to compute. Call `configure` first."
        ) from error
