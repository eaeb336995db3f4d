"""Installs the library `thesis_tf`, and a console script for each program of `bin`.

In a wheel, `bin` and `models` are not top-level packages, where their names would collide with
others: copies of them are in `thesis_tf/_programs`, whose `__init__.py` starts the programs.
"""

import pathlib
import shutil

import setuptools
from setuptools.command.build_py import build_py

ROOT = pathlib.Path(__file__).parent
PROGRAMS = sorted(path.stem for path in ROOT.glob("bin/[a-z]*.py"))


class BuildWithPrograms(build_py):
    """Copies `bin` and `models` into a wheel; an editable install uses those of the checkout."""

    def run(self) -> None:
        """Builds the package with setuptools, and adds the copies."""
        super().run()
        if self.editable_mode:
            return
        for package in ("bin", "models"):
            target = pathlib.Path(self.build_lib, "thesis_tf", "_programs", package)
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(ROOT / package, target, ignore=shutil.ignore_patterns("__pycache__"))


# tensorflow-datasets imports importlib_resources, but doesn't require it.
TFDS = ["tensorflow-datasets>=4.9.7", "importlib_resources>=5"]
REDIS = ["redis[hiredis]>=5"]
RAY = ["ray>=2.40"]
REPRODUCE = ["jinja2>=3.1"]
# New versions of ruff and mypy have other rules, so each update is a separate commit.
TESTS = [
    *TFDS, *REDIS, *RAY, *REPRODUCE, "pytest>=8", "pytest-xdist>=3.6", "ruff==0.17.*",
    "mypy==2.4.*", "scikit-learn>=1.5", "psutil>=5.9", "playwright>=1.45",
    "threadpoolctl>=3.5",
    # tests/wheel_test.py builds a wheel without network access.
    "setuptools>=77", "wheel",
]  # fmt: skip

setuptools.setup(
    name="thesis_tf",
    version="0.1.0",
    description="Linear probes, Hessian spectra, importance sampling, auto-encoder densities and "
    "generative stochastic networks for Keras models",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    # The license of the code and that of the bundled MNIST images (see mnist_mini.md).
    license_expression="Apache-2.0 AND CC-BY-SA-3.0",
    license_files=["LICENSE", "thesis_tf/datasets/mnist_mini.md"],
    python_requires=">=3.11",
    package_dir={"": "."},
    packages=setuptools.find_packages(include=["thesis_tf", "thesis_tf.*"]),
    package_data={
        "thesis_tf": ["py.typed"],
        "thesis_tf.issgd.stores.backends.redis": ["lua/*.lua"],
        "thesis_tf.datasets": ["mnist_mini.npz", "mnist_mini.md"],
    },
    cmdclass={"build_py": BuildWithPrograms},
    entry_points={
        "console_scripts": [
            f"thesis-{name.replace('_', '-')} = thesis_tf._programs:{name}" for name in PROGRAMS
        ]
    },
    install_requires=[
        "absl-py>=2.1",
        "keras>=3.10",
        "matplotlib>=3.8",
        "numpy>=1.26",
        "pillow>=10",
        "scipy>=1.13",
        "tensorboard>=2.18",
        # tfp needs the tf-keras with TensorFlow's minor version, which tf-keras itself pins.
        "tensorflow>=2.18",
        "tensorflow-probability>=0.25",
        "tf-keras>=2.18",
        "tqdm>=4.66",
    ],
    extras_require={
        "cuda": ["tensorflow[and-cuda]>=2.18"],
        "ray": RAY,
        "redis": REDIS,
        "reproduce": REPRODUCE,
        "tfds": TFDS,
        "test": TESTS,
    },
)
