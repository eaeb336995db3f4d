"""The allowed imports, the inputs that the library must not read, and the shape of the tree.

Each rule is a function from sources, {path from the root: text}, to a list of violations. It is
applied to the whole tree, and to a few lines that violate it, which it must find.
"""

import ast
import collections
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

OPTIMIZED_GRAPHS = True

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("thesis_tf", "models", "bin")
SOURCES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for folder in (*PACKAGES, "benchmarks", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
# Packages of the library that any area may use; areas don't import one another.
SHARED = {
    "_core",
    "_keras",
    "datasets",
    "gradient_norms",
    "mcmc",
    "persistence",
    "plotting",
    "reporting",
}
ROOMS = {path.parent.name for path in (ROOT / "thesis_tf").glob("*/__init__.py")} - {"_programs"}
AREAS = ROOMS - SHARED
MOST_LINES = 400
MOST_FILES = 12
# Folders with one file per figure. Outside PACKAGES, benchmarks has one script per comparison.
MANY_FILES = ("bin/reproduction/chapters/",)
HEAVY = ("tensorflow", "keras", "tf_keras", "tensorflow_probability")

# Flags, environment and clocks, which programs pass to the library as arguments.
OUTSIDE_WORLD = (
    "absl.app",
    "absl.flags",
    "argparse",
    "sys.argv",
    "os.environ",
    "os.environb",
    "os.getenv",
    "time.time",
    "time.time_ns",
    "time.monotonic",
    "time.monotonic_ns",
    "time.perf_counter",
    "time.perf_counter_ns",
    "time.process_time",
    "datetime.datetime.now",
    "datetime.datetime.today",
    "datetime.datetime.utcnow",
    "datetime.date.today",
    "tensorflow.timestamp",
)
# Leases, ages and time-outs of chapter 7 need the time; one module reads it for all of them.
CLOCK_READERS = {"thesis_tf/issgd/transport/clock.py": {"time.monotonic"}}
# The modules that may use these packages for all others; exceptions have a reason.
OWNERS = {
    "tqdm": {
        "thesis_tf/reporting/progress.py",
        "bin/reproduction/engine/schedule.py",  # one bar per process, in one terminal
    },
    "fcntl": {
        "thesis_tf/persistence/locks.py",
        "thesis_tf/issgd/stores/backends/shm.py",  # its readers share a lock
    },
    "tensorflow.summary": {"thesis_tf/reporting/summaries.py"},
    "numpy.load": {
        "thesis_tf/persistence/arrays.py",
        # Single arrays, two of which are memory-mapped.
        "thesis_tf/probes/features/store.py",
        "thesis_tf/hessian/eigen/state_files.py",
    },
}
STYLE = "thesis_tf/plotting/style.py"
# Only type aliases, without code to test.
UNTESTED = {"thesis_tf/_core/types.py"}
UNPICKLERS = ("pickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve")


def within(name, prefixes):
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def names_used(path, text):
    """Yields (line, dotted name) of a module's imports and of the attributes that it uses."""
    tree = ast.parse(text, path)
    package = path.removesuffix(".py").split("/")[:-1]
    bound = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
                root = alias.name.split(".")[0]
                bound[alias.asname or root] = alias.name if alias.asname else root
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"
                bound[alias.asname or alias.name] = f"{module}.{alias.name}"
    for node in ast.walk(tree):
        attributes, value = [], node
        while isinstance(value, ast.Attribute):
            attributes.append(value.attr)
            value = value.value
        if attributes and isinstance(value, ast.Name) and value.id in bound:
            yield node.lineno, ".".join([bound[value.id], *reversed(attributes)])


def uses(sources, package, forbidden):
    """Returns the uses of forbidden names in the modules of a package."""
    return [
        f"{path}:{line} uses {name}"
        for path, text in sources.items()
        if within(path.replace("/", "."), [package])
        for line, name in names_used(path, text)
        if within(name, forbidden)
    ]


def imports_upwards(sources):
    """The library imports neither models nor programs, and models don't import programs."""
    return [
        *uses(sources, "thesis_tf", ["models", "bin", "benchmarks", "tests"]),
        *uses(sources, "models", ["bin", "benchmarks", "tests"]),
    ]


def imports_sideways(sources):
    """Areas don't import one another; code that several need is in packages that import no area."""
    areas = [f"thesis_tf.{area}" for area in AREAS]
    found = []
    for path in sources:
        if path.startswith("thesis_tf/"):
            own = ".".join(path.split("/")[:2])
            others = [area for area in areas if area != own]
            found += uses({path: sources[path]}, "thesis_tf", others)
    return found


def imports_private_modules(sources):
    """Names that begin with an underscore are only imported within their package."""
    found = []
    for path, text in sources.items():
        if not path.startswith("tests/"):
            importer = path.removesuffix(".py").split("/")
            for line, name in names_used(path, text):
                parts = name.split(".")
                for depth, part in enumerate(parts):
                    private = part.startswith("_") and not part.startswith("__")
                    if private and parts[0] in PACKAGES and importer[:depth] != parts[:depth]:
                        found.append(f"{path}:{line} uses {name}")
                        break
    return found


def reads_the_outside_world(sources):
    """The library takes flags, environment and time as arguments, which the programs pass."""
    return [
        use
        for path, text in sources.items()
        for use in uses(
            {path: text},
            "thesis_tf",
            [name for name in OUTSIDE_WORLD if name not in CLOCK_READERS.get(path, ())],
        )
    ]


def unpickles(sources):
    """Nothing is unpickled; tests may pickle, to show that it is refused."""
    found = [use for package in PACKAGES for use in uses(sources, package, UNPICKLERS)]
    for path, text in sources.items():
        for node in ast.walk(ast.parse(text, path)):
            if isinstance(node, ast.keyword):
                value = node.value.value if isinstance(node.value, ast.Constant) else "?"
                if (node.arg == "allow_pickle" and value is not False) or (
                    node.arg == "safe_mode" and value is not True
                ):
                    found.append(f"{path}:{node.value.lineno} sets {node.arg}")
    return found


def does_what_another_owns(sources):
    """Progress bars, locks, TensorBoard and .npz files each have one module that others use."""
    found = []
    for name, owners in OWNERS.items():
        for path in sources:
            if path not in owners:
                for package in PACKAGES:
                    found += uses({path: sources[path]}, package, [name])
    return found


def has_colors(sources):
    """All colors are defined in one module, so that all figures have the same colors."""
    found = []
    for path, text in sources.items():
        if path.startswith(PACKAGES) and path != STYLE:
            for node in ast.walk(ast.parse(text, path)):
                value = node.value if isinstance(node, ast.Constant) else None
                if isinstance(value, str) and re.fullmatch(r"#([0-9a-fA-F]{3}){1,2}", value):
                    found.append(f"{path}:{node.lineno} has the color {value}")
    return found


def too_long(sources):
    """A file should be short enough to read: split a long one by purpose."""
    lengths = {path: len(text.splitlines()) for path, text in sources.items()}
    return [
        f"{path} has {length} lines, of at most {MOST_LINES}"
        for path, length in lengths.items()
        if path.startswith(PACKAGES) and length > MOST_LINES
    ]


def too_full(sources):
    """A folder should be small enough to overview: move related modules to a sub-folder."""
    folders = collections.Counter(
        path.rpartition("/")[0]
        for path in sources
        if path.startswith(PACKAGES)
        and not path.startswith(MANY_FILES)
        and not path.endswith("/__init__.py")
    )
    return [
        f"{folder} has {count} files, of at most {MOST_FILES}"
        for folder, count in folders.items()
        if count > MOST_FILES
    ]


def mirrors_no_module(sources):
    """tests/a/b_test.py tests a/b.py, a/_b.py or the package a/b; tests in tests/ test all."""
    found = []
    for path in sources:
        if path.startswith("tests/") and path.endswith("_test.py") and path.count("/") > 1:
            folder, _, name = path.removeprefix("tests/").removesuffix("_test.py").rpartition("/")
            modules = {f"{folder}/{module}" for module in (f"{name}.py", f"_{name}.py")}
            if not (modules | {f"{folder}/{name}/__init__.py"}) & set(sources):
                found.append(f"{path} mirrors no {folder}/{name}.py")
    return found


def has_no_test(sources):
    """a/b.py has a test tests/a/b_test.py; an `__init__.py` only lists what a package exports."""
    return [
        f"{path} has no tests/{path.removesuffix('.py')}_test.py"
        for path in sources
        if within(path.replace("/", "."), PACKAGES)
        and not path.endswith("/__init__.py")
        and path not in UNTESTED
        and f"tests/{path.removesuffix('.py')}_test.py" not in sources
    ]


RULES = {
    imports_upwards: [
        ("thesis_tf/a.py", "import models"),
        ("thesis_tf/probes/a.py", "def f():\n    from bin.common.runs import folder"),
        ("thesis_tf/a.py", "import models.mlp as m"),
        ("models/a.py", "from bin import train"),
    ],
    imports_sideways: [
        ("thesis_tf/probes/a.py", "from thesis_tf import hessian"),
        ("thesis_tf/probes/a.py", "from thesis_tf.hessian.density import trace"),
        ("thesis_tf/probes/a.py", "from ..hessian import density"),
        ("thesis_tf/probes/a.py", "import thesis_tf\nthesis_tf.hessian.trace(operator)"),
        ("thesis_tf/__init__.py", "from . import probes"),
        ("thesis_tf/_keras/batches.py", "from thesis_tf.probes import taps"),
    ],
    imports_private_modules: [
        ("bin/a.py", "from thesis_tf._core import checks"),
        ("models/a.py", "from thesis_tf import _core"),
        ("bin/a.py", "import thesis_tf\nthesis_tf._core.checks"),
        ("thesis_tf/probes/a.py", "from thesis_tf.hessian.b import _hidden"),
    ],
    reads_the_outside_world: [
        ("thesis_tf/a.py", "from absl import flags"),
        ("thesis_tf/a.py", "import os\nos.environ['A']"),
        ("thesis_tf/a.py", "from os import environ as e"),
        ("thesis_tf/a.py", "import time as clock\nclock.monotonic()"),
        ("thesis_tf/a.py", "from time import perf_counter"),
        ("thesis_tf/probes/a.py", "import datetime\ndatetime.datetime.now()"),
        ("thesis_tf/a.py", "from datetime import datetime\ndatetime.now()"),
        ("thesis_tf/a.py", "import tensorflow as tf\ntf.timestamp()"),
        ("thesis_tf/issgd/a.py", "import time\ntime.monotonic()"),
        ("thesis_tf/issgd/transport/clock.py", "import time\ntime.time()"),
    ],
    unpickles: [
        ("bin/a.py", "import pickle"),
        ("models/a.py", "from joblib import load"),
        ("tests/a_test.py", "import numpy as np\nnp.load('a', allow_pickle=True)"),
        ("benchmarks/a.py", "f(allow_pickle=flag)"),
        ("bin/a.py", "import keras\nkeras.models.load_model('a', safe_mode=False)"),
    ],
    does_what_another_owns: [
        ("thesis_tf/probes/a.py", "import tqdm"),
        ("thesis_tf/a.py", "from tqdm import auto"),
        ("bin/a.py", "import fcntl"),
        ("thesis_tf/a.py", "import tensorflow as tf\ntf.summary.scalar('a', 1)"),
        ("models/a.py", "import numpy as np\nnp.load('a.npz')"),
    ],
    has_colors: [
        ("thesis_tf/probes/plots/a.py", "INK = '#24292f'"),
        ("bin/a.py", "f(color='#fff')"),
    ],
    too_long: [("bin/a.py", "pass\n" * (MOST_LINES + 1))],
    too_full: [],
    mirrors_no_module: [("tests/thesis_tf/probes/a_test.py", "")],
    has_no_test: [("thesis_tf/probes/a.py", ""), ("bin/a.py", ""), ("models/a.py", "")],
}
ALLOWED = {
    "thesis_tf/probes/a.py": "import time\nimport os\nfrom thesis_tf.probes import b\n"
    "from thesis_tf._core import checks\nfrom . import c\ntime.sleep(1)\nos.replace('a', 'b')\n",
    "thesis_tf/reporting/progress.py": "import tqdm\n",
    STYLE: "INK = '#24292f'\n",
    "thesis_tf/issgd/transport/clock.py": "import time\ntime.monotonic()\n",
    "bin/a.py": "from absl import flags\nimport models\nfrom thesis_tf import datasets, probes\n",
    "tests/thesis_tf/probes/a_test.py": "import pickle\nf(allow_pickle=False, safe_mode=True)\n",
    "tests/tree_test.py": "pass\n" * (MOST_LINES + 1),
    "thesis_tf/probes/__init__.py": "from thesis_tf.probes.a import f\n",
    "thesis_tf/_core/types.py": "Path = str\n",
    "benchmarks/a.py": "pass\n",
}
# Each of these modules has a test, too.
ALLOWED |= {
    f"tests/{path.removesuffix('.py')}_test.py": "pass\n"
    for path in ("thesis_tf/reporting/progress.py", STYLE, *CLOCK_READERS, "bin/a.py")
}


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_tree_keeps_to(rule):
    assert len(SOURCES) > 30
    assert {"autoencoders", "gsn", "hessian", "issgd", "probes"} == AREAS
    assert SHARED < ROOMS
    assert not (found := rule(SOURCES)), "\n".join([rule.__doc__ or rule.__name__, *found])
    assert rule(ALLOWED) == []


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [(rule, path, text) for rule, broken in RULES.items() for path, text in broken],
)
def test_what_breaks_a_rule_is_found(rule, path, text):
    (found, *_) = rule({path: text})
    assert found.startswith(path)


def test_a_full_folder_is_found():
    files = {f"bin/jobs/{number}.py": "" for number in range(MOST_FILES + 1)}
    assert too_full(files) == [f"bin/jobs has {MOST_FILES + 1} files, of at most {MOST_FILES}"]


def imported(statement):
    """Returns the heavy modules that a statement loads in a fresh process."""
    check = f"{statement}\nimport sys\nprint(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def is_program(text):
    """Returns whether a module runs when it is called, like the programs."""
    return any(
        isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"
        for node in ast.parse(text).body
    )


PROGRAMS = [path for path, text in SOURCES.items() if path.startswith("bin/") and is_program(text)]


@pytest.mark.parametrize(
    "module",
    ["thesis_tf", "thesis_tf.datasets", *(p[:-3].replace("/", ".") for p in PROGRAMS)],
)
def test_importing_is_quick(module):
    # `--help` and a wrong flag are only fast if TensorFlow hasn't been loaded by then.
    assert imported(f"import {module}") == []


@pytest.mark.slow
def test_a_heavy_import_is_found():
    assert imported("import keras") == ["tensorflow", "keras"]


def test_every_file_in_bin_itself_is_a_program():
    there = {path for path in SOURCES if path.startswith("bin/") and path.count("/") == 1}
    assert there - {"bin/__init__.py"} == set(PROGRAMS)


_FIRST_LINE = re.compile(rb"#!.*python")


def test_ruff_checks_programs_without_a_suffix():
    # pre-commit passes them to ruff because of their first line; `ruff check .` needs their names.
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    there = {
        path.relative_to(ROOT).as_posix()
        for folder in (*PACKAGES, "benchmarks", "docs", "tests", ".ci")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and not path.suffix and _FIRST_LINE.match(path.read_bytes())
    }
    assert there == set(config["tool"]["ruff"]["extend-include"])
