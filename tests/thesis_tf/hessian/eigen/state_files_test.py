import signal
import time

import numpy as np
import pytest

from thesis_tf import hessian
from thesis_tf.hessian import SearchOptions, extreme_eigenpairs

OPTIMIZED_GRAPHS = True


class Stopped(Exception):
    pass


def interrupted(operator, after, monkeypatch):
    """Makes the operator raise after a number of products."""
    multiply = type(operator).__matmul__

    def until(self, vectors):
        if self is operator and self.products >= after:
            raise Stopped
        return multiply(self, vectors)

    monkeypatch.setattr(type(operator), "__matmul__", until)


@pytest.fixture
def network(problem):
    return problem(examples=30)


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 9, 10, 19, 26, 37])
def test_goes_on_to_the_same_eigenvalues(network, tmp_path, monkeypatch, after):
    options = {
        "largest": 4, "smallest": 3, "tol": 1e-10, "search": SearchOptions(ncv=20, save_every=4)
    }  # fmt: skip
    through = extreme_eigenpairs(hessian.HessianOperator(*network), **options)
    operator = hessian.HessianOperator(*network)
    interrupted(operator, after, monkeypatch)
    with pytest.raises(Stopped):
        extreme_eigenpairs(operator, folder=tmp_path, **options)
    operator = hessian.HessianOperator(*network)
    again = extreme_eigenpairs(operator, folder=tmp_path, **options)

    np.testing.assert_array_equal(again.values, through.values)
    np.testing.assert_array_equal(again.vectors, through.vectors)
    assert again.products == through.products
    assert operator.products == through.products - after + again.checks


@pytest.mark.slow
def test_a_finished_search_is_not_made_again(network, tmp_path):
    first = extreme_eigenpairs(
        hessian.HessianOperator(*network), largest=4, smallest=3, folder=tmp_path
    )
    operator = hessian.HessianOperator(*network)
    again = extreme_eigenpairs(operator, largest=4, smallest=3, folder=tmp_path)
    np.testing.assert_array_equal(again.vectors, first.vectors)
    assert operator.products == again.checks
    # A search with a smaller tolerance continues from the saved state.
    closer = extreme_eigenpairs(operator, largest=4, smallest=3, tol=1e-9, folder=tmp_path)
    assert closer.converged.all()
    assert closer.products > first.products


@pytest.mark.slow
def test_another_operator_is_refused(network, problem, tmp_path):
    model, loss, (x, y) = network
    extreme_eigenpairs(hessian.HessianOperator(*network), largest=4, smallest=3, folder=tmp_path)
    others = [
        hessian.GaussNewtonOperator(*network),
        hessian.HessianOperator(model, loss, (x[:-1], y[:-1])),
        hessian.HessianOperator(model, "sparse_categorical_crossentropy", (x, y), check=False),
        hessian.HessianOperator(*problem(examples=30, seed=1)),
    ]
    for other in others:
        with pytest.raises(ValueError, match=r"holds the search of another operator.*Choose"):
            extreme_eigenpairs(other, largest=4, smallest=3, folder=tmp_path)
    with pytest.raises(ValueError, match=r"ncv=43, and this one has 30. Pass ncv=43"):
        extreme_eigenpairs(
            hessian.HessianOperator(*network),
            largest=4,
            smallest=3,
            folder=tmp_path,
            search=SearchOptions(ncv=30),
        )
    assert extreme_eigenpairs(
        hessian.HessianOperator(*network), largest=4, smallest=3, folder=tmp_path
    )


SEARCH = """
import keras, numpy as np, sys
from thesis_tf import hessian
keras.utils.set_random_seed(0)
layers = [keras.Input((20,)), keras.layers.Dense(40, "tanh"), keras.layers.Dense(3)]
model = keras.Sequential(layers)
rng = np.random.default_rng(0)
data = rng.normal(size=(4000, 20)).astype("f"), rng.integers(0, 3, 4000)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
H = hessian.HessianOperator(model, loss, data, check=False)
folder = sys.argv[1] if len(sys.argv) > 1 else None
search = hessian.SearchOptions(ncv=40, save_every=3)
options = {"tol": 1e-4, "search": search, "folder": folder}
pairs = hessian.extreme_eigenpairs(H, largest=10, smallest=3, **options)
print(*pairs.values.tolist(), pairs.products, H.products)
"""


@pytest.mark.slow
def test_kill_9(start_python, tmp_path):
    process = start_python(SEARCH)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    expected = output.split()
    state, kills = tmp_path / "state.npz", 0
    while True:
        process = start_python(SEARCH, tmp_path)
        before = state.stat().st_mtime_ns if state.exists() else None
        while kills < 2 and process.poll() is None:
            if state.exists() and state.stat().st_mtime_ns != before:
                process.kill()
            time.sleep(0.01)
        output, errors = process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, errors
        kills += 1
    found = output.split()
    assert kills == 2
    assert found[:-1] == expected[:-1]
    assert int(found[-1]) < int(expected[-1])


def test_goes_on_in_the_middle_of_confirming(matrix, tmp_path):
    spectrum = [*[-2.0] * 2, *np.linspace(-0.1, 0.1, 60), *[5.0] * 3]
    options = {"largest": 3, "smallest": 2, "tol": 1e-8}
    through = extreme_eigenpairs(matrix(spectrum)[0], **options, search=SearchOptions(confirm=8))
    for stop in (*range(5, through.products, 7), 1000):
        again = extreme_eigenpairs(
            matrix(spectrum)[0],
            **options,
            folder=tmp_path,
            search=SearchOptions(confirm=8, max_products=stop, save_every=3),
        )
    assert again.products == through.products
    np.testing.assert_array_equal(again.values, through.values)
    np.testing.assert_array_equal(again.vectors, through.vectors)
    np.testing.assert_allclose(again.values, [-2, -2, 5, 5, 5], atol=1e-10)


def test_goes_on_in_the_middle_of_an_extension(matrix, poor_restarts, tmp_path):
    spectrum = [*[-2.0] * 2, *np.linspace(-0.1, 0.1, 60), *[5.0] * 3]
    options = {"largest": 3, "smallest": 2, "tol": 1e-8}
    through = extreme_eigenpairs(matrix(spectrum)[0], **options, search=SearchOptions(confirm=8))
    for stop in (*range(5, through.products), 1000):
        again = extreme_eigenpairs(
            matrix(spectrum)[0],
            **options,
            folder=tmp_path,
            search=SearchOptions(confirm=8, max_products=stop, save_every=3),
        )
    assert through.checks > 5
    assert again.products == through.products
    np.testing.assert_array_equal(again.values, through.values)
    np.testing.assert_array_equal(again.vectors, through.vectors)
