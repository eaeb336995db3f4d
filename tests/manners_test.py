"""The conventions of all public signatures: of functions, of constructors and of methods.

`python tests/manners_test.py` prints all of them as a table.
"""

import dataclasses
import importlib
import inspect
import pathlib
import pkgutil
import re
import sys
import typing

import pytest

PACKAGES = ("models", "thesis_tf")
# Libraries that fix the signatures of the methods that override theirs.
FRAMEWORKS = ("absl", "keras", "scipy", "tensorflow", "tensorflow_probability", "tf_keras")
# What **kwargs may be passed to, if the docstring says so.
PASSED_ON = r"\b(keras|matplotlib)\."
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
PLACES = ("path", "folder", "log_dir", "data_dir")
# Options that may follow the first parameter without a name, each an idiom.
POSITIONAL = {
    "taps": "what is selected follows the model that it is selected from",
    "input_shape": "a network is built from the shape of its inputs ...",
    "num_classes": "... and the number of its outputs",
    "rows": "read(name, rows), like an index",
    "start": "batches(start, stop), like a range",
    "stop": "batches(start, stop), like a range",
    "height": "new_figure(width, height)",
    "advice": "the fourth part of an error's message, after name, expected and received",
}
# (name, parameter): why the parameter differs.
EXCEPTIONS = {
    ("thesis_tf.hessian.GaussNewtonOperator", "verbose"): "a search shows the same count",
    ("thesis_tf.hessian.HessianOperator", "verbose"): "a search shows the same count",
    ("thesis_tf.mcmc.stream_seed", "seed"): "it returns a seed",
    ("thesis_tf.reporting.progress.bar", "verbose"): "it interprets `verbose`",
    ("thesis_tf.reporting.progress.checked_verbose", "verbose"): "it returns `verbose`",
    ("thesis_tf.probes.FeatureStore.read_into", "start"): "a row, as in a slice",
    (
        "thesis_tf.probes.plots.network.draw_network",
        "path",
    ): "what draws reports passes their parts",
    ("models.build", "weights"): "as in Keras: a name or a file",
    ("models.backbones.backbone", "weights"): "as in Keras: a name or a file",
}


def modules():
    """Yields the public modules, packages before what is in them."""
    for package in map(importlib.import_module, PACKAGES):
        inside = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        names = [package.__name__, *(module.name for module in inside)]
        for name in sorted(names, key=lambda name: (name.count("."), name)):
            if not any(part.startswith("_") for part in name.split(".")):
                yield importlib.import_module(name)


def exports(module):
    """Returns the public names of a module: its `__all__`, or what it defines."""
    return getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def public():
    """Returns {name: callable} of public functions, classes and their methods.

    What a package exports has the package's name, not also that of the module that defines it.
    """
    named = {}
    for module in modules():
        for name in exports(module):
            value = getattr(module, name, None)
            if inspect.isroutine(value) or inspect.isclass(value):
                named.setdefault(value, f"{module.__name__}.{name}")
    kinds = [value for value in named if inspect.isclass(value)]
    # Those of a private base class have the name of the first public class that has them.
    for of in (own_methods, methods):
        for kind in kinds:
            for key, method in of(kind):
                named.setdefault(method, f"{named[kind]}.{key}")
    return {name: value for value, name in named.items()}


def is_ours(value):
    return (getattr(value, "__module__", None) or "").split(".")[0] in PACKAGES


def methods(kind):
    """Yields (name, function) of a class' public methods, but not of a framework's methods."""
    fixed = {
        name
        for base in kind.__mro__
        if base.__module__.split(".")[0] in FRAMEWORKS
        for name in vars(base)
    } | set(getattr(kind, "__dataclass_fields__", ()))
    named = {
        name: value for b in reversed(kind.__mro__) if is_ours(b) for name, value in vars(b).items()
    }
    for name, value in named.items():
        function = getattr(value, "__func__", value)
        if inspect.isfunction(function) and not name.startswith("_") and name not in fixed:
            yield name, function


def own_methods(kind):
    """Yields (name, function) of the public methods that a class itself defines."""
    return ((name, value) for name, value in methods(kind) if name in vars(kind))


def signature(value):
    """Returns the signature of a function or constructor; empty if the constructor isn't ours."""
    if inspect.isclass(value) and "__dataclass_fields__" not in vars(value):
        constructor = next(vars(b)["__init__"] for b in value.__mro__ if "__init__" in vars(b))
        if not is_ours(constructor):
            return inspect.Signature()
    return inspect.signature(value)


def parameters_of(value):
    """Returns {name: parameter} without `self` and `cls`."""
    found = signature(value).parameters.items()
    return {key: parameter for key, parameter in found if key not in ("self", "cls")}


def hidden(kind):
    """Returns the options of base classes that a constructor takes as **kwargs, without a name."""
    return {
        key
        for base in kind.__mro__[1:]
        if is_ours(base) and "__init__" in vars(base)
        for key, parameter in parameters_of(base).items()
        if parameter.kind is not parameter.VAR_KEYWORD and key not in parameters_of(kind)
    }


def is_place(parameter):
    """Returns whether a parameter is one file or folder."""
    annotation = str(parameter.annotation)
    return re.search(r"PathLike|\bPath\b", annotation) and not re.match(
        r"collections|dict|list|tuple", annotation
    )


def faults(name, value):
    """Returns the violations of the conventions in a signature."""
    parameters, found = parameters_of(value), []
    for number, (key, parameter) in enumerate(parameters.items()):
        if (name, key) in EXCEPTIONS:
            continue
        keyword = parameter.kind is parameter.KEYWORD_ONLY
        optional = parameter.default is not parameter.empty
        if key in NOT_USED and not (key == "start" and "stop" in parameters):
            found.append(f"{key}: the glossary has {NOT_USED[key]}")
        # The pair of integers that a stateless operation draws from is an argument, not an option.
        is_pair = "Tensor" in str(parameter.annotation) or parameter.annotation is typing.Any
        if key == "seed" and not is_pair and not (keyword and parameter.default == 0):
            found.append("seed: keyword-only, 0 by default")
        if key == "verbose" and not (keyword and parameter.default == "auto"):
            found.append('verbose: keyword-only, "auto" by default')
        if key == "batch_size" and not keyword:
            found.append("batch_size: keyword-only")
        if parameter.kind is parameter.VAR_KEYWORD:
            documented = re.search(rf"\*\*{key}: .*", inspect.getdoc(value) or "")
            if not (documented and re.search(PASSED_ON, documented[0])):
                found.append(f"**{key}: options are named")
            if inspect.isclass(value):
                found += [f"**{key}: hides {option}" for option in sorted(hidden(value))]
        if optional and not keyword and number > 0 and key not in POSITIONAL:
            found.append(f"{key}: options are keyword-only")
        if is_place(parameter) and not key.endswith(PLACES):
            found.append(f"{key}: a file is a path, a directory a folder, log_dir or data_dir")
        if re.search(r"_(freq|frequency|interval|period)$|^every_", key):
            found.append(f"{key}: the glossary has *_every")
    # With axes as its first argument, a function draws a part of a figure.
    if name.rpartition(".")[2].startswith("draw_") and next(iter(parameters)) != "axes":
        path, title = parameters.get("path"), parameters.get("title")
        positional = [k for k, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
        if (name, "path") not in EXCEPTIONS and (
            positional[1:] != ["path"]
            or path.default is not path.empty
            or title is None
            or title.kind is not title.KEYWORD_ONLY
            or title.default is not None
        ):
            found.append("draw_x(result, path, *, title=None)")
    return found


ROOT = pathlib.Path(__file__).parents[1]
ROOMS = ["models"] + [
    f"thesis_tf.{room.name}"
    for room in pkgutil.iter_modules([str(ROOT / "thesis_tf")])
    if not room.name.startswith("_")
]


@pytest.mark.parametrize("room", ROOMS)
def test_the_manners_of(room):
    inside = {name: value for name, value in public().items() if name.startswith(f"{room}.")}
    assert inside
    found = [f"{name}: {fault}" for name, value in inside.items() for fault in faults(name, value)]
    assert not found, "\n".join(found)


def test_everything_public_is_seen():
    assert {
        "models.gsn.walkback_dae",  # in a module that its package doesn't export
        "thesis_tf.errors.invalid",
        "thesis_tf.gsn.GSN",  # a class of Keras
        "thesis_tf.gsn.GenerativeStochasticNetwork.update",  # a method of one
        "thesis_tf.issgd.stores.Store.fetch",
        "thesis_tf.persistence.fingerprint.of_model",
        "thesis_tf.probes.ProbeReport.load",  # a class method
        "thesis_tf.reporting.progress.bar",
    } <= set(public())
    assert {"seed", "walkback"} < set(parameters_of(public()["thesis_tf.gsn.GSN"]))
    # Keras fixes the signatures of these.
    assert not {f"thesis_tf.gsn.GSN.{name}" for name in ("fit", "call", "get_config")} & set(
        public()
    )


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("def f(x, seed): ...", "seed: keyword-only, 0 by default"),
        ("def f(x, *, seed=1): ...", "seed: keyword-only, 0 by default"),
        ("def f(x, seed: 'tf.Tensor'): ...", None),
        ("def f(x, *, verbose=True): ...", 'verbose: keyword-only, "auto" by default'),
        ("def f(x, batch_size): ...", "batch_size: keyword-only"),
        ("def f(x, *, progress=True): ...", "progress: the glossary has verbose"),
        ("def f(x, *, thin=1): ...", "thin: the glossary has num_steps_between_results"),
        ("def f(x, **options): ...", "**options: options are named"),
        ("def f(x, **k):\n  '''**k: arguments of `keras.Model`.'''", None),
        ("def f(x, tol=1e-3): ...", "tol: options are keyword-only"),
        ("def draw_f(x, y, path, *, title=None): ...", "draw_x(result, path, *, title=None)"),
        ("def f(x=1, *, tol=1e-3): ...", None),
        ("def f(x, taps='*'): ...", None),
        (
            "def f(x, at: Path): ...",
            "at: a file is a path, a directory a folder, log_dir or data_dir",
        ),
        ("def f(x, files: list[Path]): ...", None),
        ("def f(x, *, save_freq=3): ...", "save_freq: the glossary has *_every"),
        ("def draw_f(x, path): ...", "draw_x(result, path, *, title=None)"),
        ("def draw_f(x, path, title=None): ...", "draw_x(result, path, *, title=None)"),
        (
            "def draw_f(x, path=None, *, title=None): ...",
            "draw_x(result, path, *, title=None)",
        ),
        ("def draw_f(x, path, *, title=''): ...", "draw_x(result, path, *, title=None)"),
        ("def draw_f(axes, x): ...", None),
        ("class f:\n  def __init__(self, x, tol=1): ...", "tol: options are keyword-only"),
        ("@dataclass\nclass f:\n  x: int\n  tol: int = 1", "tol: options are keyword-only"),
        ("class f(Exception): ...", None),
        ("class f(Layer): ...", None),
        (
            "class A(Layer):\n  def __init__(self, *, size=1, **kwargs): ...\n"
            "class f(A):\n  '''**kwargs: for keras.Model.'''\n  def __init__(self, **kwargs): ...",
            "**kwargs: hides size",
        ),
    ],
)
def test_what_breaks_the_manners_is_found(code, fault):
    import keras

    scope = {
        "__name__": "thesis_tf.room",
        "dataclass": dataclasses.dataclass,
        "Layer": keras.layers.Layer,
        "Path": pathlib.Path,
    }
    exec(code, scope)
    name = "draw_f" if "draw_f" in scope else "f"
    found = faults(f"thesis_tf.room.{name}", scope[name])
    assert fault in found or (fault is None and not found)


def test_only_overrides_of_frameworks_are_exempt():
    import keras

    scope = {"__name__": "thesis_tf.room", "Layer": keras.layers.Layer}
    exec("class A(Layer):\n  def call(self, x): ...\n  def mine(self, x): ...", scope)
    assert [name for name, _ in methods(scope["A"])] == ["mine"]


def test_every_exception_is_needed():
    found = {(name, key) for name, value in public().items() for key in parameters_of(value)}
    assert set(EXCEPTIONS) <= found
    assert set(POSITIONAL) <= {key for _, key in found}


def test_every_public_signature_is_annotated():
    bare = [
        name
        for name, value in public().items()
        if inspect.isfunction(value)
        and signature(value).return_annotation is inspect.Signature.empty
    ]
    assert bare == []


def table():
    """Prints every public function, class and method in Markdown."""
    print("| function | seed | batch_size | verbose | folder/path | result type |")
    print("|---|---|---|---|---|---|")
    for name, value in sorted(public().items()):
        parameters = parameters_of(value)
        cells = [
            "" if key not in parameters
            else "required" if parameters[key].default is inspect.Parameter.empty
            else repr(parameters[key].default)
            for key in ("seed", "batch_size", "verbose")
        ]  # fmt: skip
        places = ", ".join(key for key in parameters if key.endswith(PLACES))
        result = value if inspect.isclass(value) else signature(value).return_annotation
        shown = (
            re.sub(r"(\w+\.)+", "", inspect.formatannotation(result))
            .replace("|", "or")
            .replace("'", "")
        )
        print(f"| {name.removeprefix('thesis_tf.')} | {' | '.join([*cells, places, shown])} |")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))  # this checkout, installed or not
    table()
