import numpy as np
import pytest
import tensorflow as tf

from thesis_tf.autoencoders import ScoreEstimator

SIGMA = 0.3
RNG = np.random.default_rng(0)


def test_tangents_say_their_dimension():
    estimator = ScoreEstimator(lambda x: x * np.array([0.9, 0.2, 0.1]), sigma=SIGMA)
    tangents = estimator.tangent_directions(RNG.normal(size=(4, 3)))
    assert repr(tangents) == "Tangents(4 points of 3 values, dimension 1)"
    expected = {"points": 4, "dimension": 1.0, "asymmetry": 0.0, "norm_of_antisymmetric_part": 0.0}
    ends = {"largest": 0.9, "smallest": 0.1}
    expected |= {f"{name}_eigenvalue_of_symmetric_part": end for name, end in ends.items()}
    assert tangents.summary() == pytest.approx(expected)
    assert [line.split()[0] for line in tangents.table().splitlines()] == ["rank", "1", "2", "3"]


def test_all_computed_eigenvalues_above_the_threshold():
    found = ScoreEstimator(lambda x: 0.9 * x).tangent_directions(np.ones((3, 9)), top_k=4)
    assert found.dimension.tolist() == [4, 4, 4]
    assert found.warnings()[0].startswith("At 3 of 3 points all 4 computed eigenvalues")
    assert "smallest_eigenvalue_of_symmetric_part" not in found.summary()
    assert found.table().splitlines()[-1] == found.warnings()[0]


@pytest.mark.parametrize(
    ("skew", "doubtful"), [(0.0, False), (0.4, False), (0.6, True), (3.0, True)]
)
def test_a_jacobian_far_from_symmetric_is_said(skew, doubtful):
    # Eigenvalues of J are .9 +- i skew and .9; those of its symmetric part are all .9.
    turn = np.diag([0.9, 0.9, 0.9]) + skew * np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 0]])
    estimator = ScoreEstimator(lambda x: x @ tf.constant(turn, x.dtype))
    found = estimator.tangent_directions(RNG.normal(size=(4, 3)))
    np.testing.assert_allclose(found.skew, skew, atol=1e-7)
    np.testing.assert_allclose(found.eigenvalues, 0.9, atol=1e-12)
    assert bool(found.warnings()) == doubtful
    said = f"the norm of its antisymmetric part is {skew:.2g} (median)"
    assert all(said in sentence for sentence in found.warnings())


def test_the_bound_is_where_an_error_can_turn_across_into_along():
    # A symmetric truth with eigenvalues 1 and 0, and an error whose two parts are equally large.
    truth, size = np.diag([1.0, 0.0]), 0.51
    error = size * np.array([[-1.0, 0.0], [0.0, 1.0]]) + size * np.array([[0.0, 1.0], [-1.0, 0.0]])
    found = ScoreEstimator(
        lambda x: x @ tf.constant((truth + error).T, x.dtype)
    ).tangent_directions(np.ones((1, 2)))
    assert abs(found.directions[0][1, 0]) == pytest.approx(1)  # the direction across
    assert found.warnings()
