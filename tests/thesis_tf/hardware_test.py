import pytest

from thesis_tf.hardware import DISTRIBUTIONS, PRECISIONS, Hardware, configure


def test_defaults():
    hardware = Hardware()

    assert (hardware.distribution, hardware.precision, hardware.seed) == ("none", "float32", 0)
    assert hardware.num_virtual_devices == 0
    for distribution in DISTRIBUTIONS:
        for precision in PRECISIONS:
            Hardware(distribution=distribution, precision=precision)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("distribution", "mirror", "`distribution` must be one of none, mirrored, .*: 'mirror'"),
        ("precision", "bfloat16", "`precision` must be one of float32, mixed_bfloat16.*'bfloat16'"),
        ("num_virtual_devices", -1, "`num_virtual_devices` must be at least 0. Received: -1"),
    ],
)
def test_bad_fields(field, value, message):
    with pytest.raises(ValueError, match=message):
        Hardware(**{field: value})


@pytest.mark.parametrize(
    "config",
    ["", "{bad", "[1]", '{"cluster": {"worker": ["localhost:1"]}, "task": {"type": "worker"}}'],
)
def test_a_cluster_needs_two_workers(monkeypatch, config):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(ValueError, match=r"`TF_CONFIG` must be JSON.* For two machines, set it"):
        configure(Hardware(distribution="multi_worker"))


@pytest.mark.slow
def test_a_tpu_that_cannot_be_reached(run_python):
    said = run_python(
        """
        from thesis_tf.hardware import Hardware, configure
        import json
        try:
            configure(Hardware(distribution="tpu", tpu="nowhere"))
        except OSError as error:
            print(json.dumps(str(error)))
        """
    )
    assert said.startswith("`tpu` must be the name or address of a TPU that can be reached, or ")
    assert "Received: nowhere, where " in said


@pytest.mark.slow
def test_one_device(run_python):
    result = run_python(
        """
        from thesis_tf.hardware import Hardware, configure, is_chief
        import json, random
        strategy = configure(Hardware(seed=3, precision="mixed_bfloat16"))
        import keras, numpy as np, tensorflow as tf

        def draw():
            layer = keras.layers.Dense(4)
            layer.build((None, 3))
            return [random.random(), np.random.rand(), float(tf.random.uniform(())),
                    layer.kernel.numpy().sum().item()]

        first = draw()
        configure(Hardware(seed=3, precision="mixed_bfloat16"))
        second = draw()
        configure(Hardware(seed=4))
        policies = ["mixed_bfloat16", keras.config.dtype_policy().name]
        with strategy.scope():
            variable = tf.Variable(1.0)
        print(json.dumps({
            "same": first == second,
            "changed": [a != b for a, b in zip(first, draw())],
            "policy": keras.config.dtype_policy().name,
            "replicas": strategy.num_replicas_in_sync,
            "default": strategy is tf.distribute.get_strategy(),
            "chief": is_chief(strategy),
            "plain": type(variable).__name__,
        }))
        """
    )

    assert result == {
        "same": True,
        "changed": [True] * 4,
        "policy": "float32",
        "replicas": 1,
        "default": True,
        "chief": True,
        "plain": "ResourceVariable",
    }


@pytest.mark.slow
def test_virtual_devices(run_python):
    result = run_python(
        """
        from thesis_tf.hardware import Hardware, configure, is_chief
        import json
        hardware = Hardware(distribution="mirrored", num_virtual_devices=3, deterministic=True)
        strategy = configure(hardware)
        import tensorflow as tf
        from tensorflow.python.framework import config

        @tf.function
        def step():
            return strategy.reduce("SUM", strategy.run(lambda: tf.ones(())), axis=None)

        total = float(step())
        configure(hardware)  # a second call with as many devices is valid
        try:
            configure(Hardware(num_virtual_devices=2))
        except RuntimeError as error:
            message = str(error)
        print(json.dumps({
            "replicas": strategy.num_replicas_in_sync,
            "devices": [d[-5:] for d in strategy.extended.worker_devices],
            "total": total,
            "chief": is_chief(strategy),
            "message": message,
            "deterministic": config.is_op_determinism_enabled(),
        }))
        """
    )

    assert result.pop("message").startswith(
        "The CPU can't be divided into 2 virtual devices any more"
    )
    assert result == {
        "replicas": 3,
        "devices": ["CPU:0", "CPU:1", "CPU:2"],
        "total": 3.0,
        "chief": True,
        "deterministic": True,
    }


@pytest.mark.slow
def test_mirrored_on_one_cpu_and_workers_of_one_machine(run_python):
    result = run_python(
        """
        from thesis_tf.hardware import Hardware, configure, is_chief
        import json, tempfile
        import tensorflow as tf
        workers = tf.distribute.MultiWorkerMirroredStrategy()
        mirrored = configure(Hardware(distribution="mirrored"))
        import keras, numpy as np
        from thesis_tf.probes import extract

        with workers.scope():
            model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
            try:
                extract(model, np.zeros((3, 2)), tempfile.mkdtemp())
            except RuntimeError as error:
                message = str(error)
        print(json.dumps({
            "workers": workers.num_replicas_in_sync,
            "mirrored": mirrored.num_replicas_in_sync,
            "chief": is_chief(workers),
            "message": message,
        }))
        """
    )

    assert "call `extract` outside the strategy, with shard=(i, n)" in result.pop("message")
    assert result == {"workers": 1, "mirrored": 1, "chief": True}


@pytest.mark.parametrize(
    ("jobs", "task", "index", "chief"),
    [
        (["worker"], "worker", 0, True),
        (["worker"], "worker", 1, False),
        (["chief", "worker"], "worker", 0, False),
        (["chief", "worker"], "chief", 0, True),
        (["chief", "worker", "evaluator"], "evaluator", 0, False),
    ],
)
def test_chief_of_a_cluster(jobs, task, index, chief):
    import types

    import tensorflow as tf

    from thesis_tf.hardware import is_chief

    cluster = tf.train.ClusterSpec({job: ["localhost:1", "localhost:2"] for job in jobs})
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        cluster, task_type=task, task_id=index
    )

    assert is_chief(types.SimpleNamespace(cluster_resolver=resolver)) is chief
