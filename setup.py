"""Installs the library `thesis_tf`; `models` and `bin` are run from the checkout."""

import pathlib

import setuptools

ROOT = pathlib.Path(__file__).parent

TESTS = ["pytest>=8", "ruff>=0.9", "scikit-learn>=1.5", "pillow>=10", "psutil>=5.9"]

setuptools.setup(
    name="thesis_tf",
    version="0.1.0",
    description="Linear probes, Hessian spectra, importance sampling and auto-encoder "
    "densities for Keras models",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    package_dir={"": "."},
    packages=setuptools.find_packages(include=["thesis_tf", "thesis_tf.*"]),
    package_data={"thesis_tf.datasets": ["mnist_mini.npz", "mnist_mini.md"]},
    install_requires=[
        "absl-py>=2.1",
        "keras>=3.12",
        "matplotlib>=3.8",
        "numpy>=1.26",
        "scipy>=1.13",
        "tensorboard>=2.20",
        # tfp needs tf-keras of TensorFlow's own minor version; tf-keras pins that itself.
        "tensorflow>=2.21",
        "tensorflow-probability>=0.25",
        "tf-keras>=2.21",
        "tqdm>=4.66",
    ],
    extras_require={
        "cuda": ["tensorflow[and-cuda]>=2.21"],
        "redis": ["redis>=5"],
        "tfds": ["tensorflow-datasets>=4.9.7"],
        "test": TESTS,
    },
)
