"""The conventions of all public signatures and results.

`python tests/manners_test.py` prints the table of all public functions.
"""

import dataclasses
import importlib
import inspect

import pytest

ROOMS = (
    "thesis_tf.probes",
    "thesis_tf.hessian",
    "thesis_tf.gradient_norms",
    "thesis_tf.issgd",
    "thesis_tf.issgd.stores",
    "thesis_tf.autoencoders",
    "thesis_tf.autoencoders.theory",
    "thesis_tf.gsn",
    "thesis_tf.gsn.finite",
    "thesis_tf.mcmc",
    "thesis_tf.datasets",
    "thesis_tf.persistence",
    "thesis_tf.plotting",
    "thesis_tf.corruption",
    "thesis_tf.hardware",
    "models",
)
# Words for which the glossary has another word.
NOT_USED = {
    "progress": "verbose",
    "store_dir": "folder",
    "scratch": "folder",
    "thin": "num_steps_between_results",
    "burn_in": "num_burnin_steps",
    "capacity": "ncv",
    "start": "v0, initial_state or initial_...",
    "memory": "memory_limit, num_correction_pairs or num_...",
    "penalty": "regularization or l2",
    "gap": "tol",
    "share": "fraction",
    "part": "fraction",
    "valid": "validation",
    "way": "mode",
    "own": "a word that says whose",
    "every": "measure_every, update_every, ...: what happens",
    "tolerance": "tol",
}
PATHS = {"path", "folder", "log_dir"}
# Optional arguments that may be positional: they specify what is computed, not how.
POSITIONAL = {
    "alpha", "axes", "conditionals", "folder", "initial", "largest", "num_corrupted", "order",
    "probabilities", "proposal", "reach", "reconstruction", "run_id", "shape", "sigma", "smallest",
    "smoothed_norms", "taps", "target", "units",
}  # fmt: skip
# (name, argument) of arguments with another meaning, or with a reason for another default.
EXCEPTIONS = {
    ("thesis_tf.hessian.GaussNewtonOperator", "verbose"),  # a search shows the same count
    ("thesis_tf.hessian.HessianOperator", "verbose"),
    ("thesis_tf.mcmc.stream_seed", "seed"),  # the function returns a seed
    ("thesis_tf.probes.FeatureStore.read_into", "start"),  # a row, as in a slice
}


def public():
    """Yields (name, callable) of everything public, including public methods of classes."""
    for room in ROOMS:
        module = importlib.import_module(room)
        names = getattr(module, "__all__", None) or [
            name
            for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", None) == room
        ]
        for name in names:
            value = getattr(module, name)
            if inspect.isclass(value):
                if not (issubclass(value, Exception) or inspect.isabstract(value)):
                    yield f"{room}.{name}", value
                for key, method in vars(value).items():
                    if not key.startswith("_") and inspect.isfunction(method):
                        yield f"{room}.{name}.{key}", method
            elif callable(value):
                yield f"{room}.{name}", value


def signature(value):
    try:
        return inspect.signature(value)
    except (TypeError, ValueError):
        return inspect.Signature()


def is_keras(value):
    import keras

    kind = value if inspect.isclass(value) else None
    return kind is not None and issubclass(
        kind, (keras.layers.Layer, keras.callbacks.Callback, keras.optimizers.Optimizer)
    )


def faults(name, value):
    """Returns the violations of the conventions in a signature."""
    short, is_class = name.rpartition(".")[2], inspect.isclass(value)
    is_method = not is_class and name.split(".")[-2][:1].isupper()
    parameters = signature(value).parameters
    if dataclasses.is_dataclass(value) or getattr(value, "_is_protocol", False):
        parameters = {key: p for key, p in parameters.items() if key in NOT_USED}
    found = []
    for key, parameter in parameters.items():
        keyword = parameter.kind is inspect.Parameter.KEYWORD_ONLY
        optional = parameter.default is not inspect.Parameter.empty
        if (name, key) in EXCEPTIONS:
            continue
        if key in NOT_USED:
            found.append(f"{key}: the glossary has {NOT_USED[key]}")
        if key == "seed" and not is_method and not (keyword and parameter.default == 0):
            found.append("seed: keyword-only, 0 by default")
        if key == "verbose" and not (keyword and parameter.default == "auto"):
            found.append('verbose: keyword-only, "auto" by default')
        if key == "batch_size" and not keyword:
            found.append("batch_size: keyword-only")
        free = is_method or is_keras(value)
        if parameter.kind is inspect.Parameter.VAR_KEYWORD and not free:
            found.append(f"**{key}: options are named")
        if optional and not keyword and not free and key not in POSITIONAL:
            found.append(f"{key}: options are keyword-only")
    if short.startswith("draw_") and not is_method:
        title = parameters.get("title")
        positional = [k for k, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
        if positional[1:] != ["path"] or title is None or title.kind is not title.KEYWORD_ONLY:
            found.append("draw_x(result, path, *, title=None)")
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_the_manners_of(room):
    found = [
        f"{name}: {fault}"
        for name, value in public()
        if name.startswith(f"{room}.")
        for fault in faults(name, value)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("def f(x, seed): ...", "seed: keyword-only, 0 by default"),
        ("def f(x, *, seed=1): ...", "seed: keyword-only, 0 by default"),
        ("def f(x, *, verbose=True): ...", 'verbose: keyword-only, "auto" by default'),
        ("def f(x, batch_size=3): ...", "batch_size: keyword-only"),
        ("def f(x, *, progress=True): ...", "progress: the glossary has verbose"),
        ("def f(x, *, thin=1): ...", "thin: the glossary has num_steps_between_results"),
        ("def f(x, **options): ...", "**options: options are named"),
        ("def f(x, tol=1e-3): ...", "tol: options are keyword-only"),
        ("def draw_f(x, y, path, *, title=None): ...", "draw_x(result, path, *, title=None)"),
        ("def draw_f(x, path): ...", "draw_x(result, path, *, title=None)"),
        ("def draw_f(x, path, title=None): ...", "draw_x(result, path, *, title=None)"),
    ],
)
def test_what_breaks_the_manners_is_found(code, fault):
    scope = {}
    exec(code, scope)
    name = "draw_f" if "draw_f" in scope else "f"
    assert fault in faults(f"thesis_tf.room.{name}", scope[name])


def test_every_public_signature_is_annotated():
    bare = [
        name
        for name, value in public()
        if not inspect.isclass(value)
        and inspect.isfunction(value)
        and signature(value).return_annotation is inspect.Signature.empty
    ]
    assert bare == []


def table():
    """Prints every public function and class in Markdown."""
    print("| name | seed | batch_size | verbose | folder, path, log_dir | returns |")
    print("|---|---|---|---|---|---|")
    for name, value in public():
        parameters = signature(value).parameters
        cells = [
            repr(parameters[key].default) if key in parameters else ""
            for key in ("seed", "batch_size", "verbose")
        ]
        places = ", ".join(key for key in parameters if key in PATHS)
        result = signature(value).return_annotation
        if inspect.isclass(value) or result is inspect.Signature.empty:
            result = ""
        shown = getattr(result, "__name__", str(result)).replace("|", "or")
        print(f"| {name.removeprefix('thesis_tf.')} | {' | '.join([*cells, places, shown])} |")


if __name__ == "__main__":
    table()
