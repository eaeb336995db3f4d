import numpy as np
import pytest

from thesis_tf.autoencoders.density import quadrature

DEGREES = {
    "gauss_legendre": lambda count: 2 * count - 1,
    "midpoint": lambda count: 1,
    "trapezoid": lambda count: 1,
    "simpson": lambda count: 3,
}


@pytest.mark.parametrize("count", [3, 5, 9])
@pytest.mark.parametrize("name", quadrature.RULES)
def test_a_rule_is_exact_to_its_degree_and_no_further(name, count):
    assert name in DEGREES, "add the degree of the polynomials that it integrates to DEGREES"
    nodes, weights = quadrature.rule(name, count)
    assert len(nodes) == len(weights) == count
    exact = DEGREES[name](count)
    for degree in range(exact + 1):
        assert weights @ nodes**degree == pytest.approx(1 / (degree + 1), rel=1e-13)
    beyond = exact + 1
    assert abs(weights @ nodes**beyond * (beyond + 1) - 1) > 1e-12


@pytest.mark.parametrize("name", quadrature.RULES)
def test_a_rule_is_the_same_from_both_ends(name):
    nodes, weights = quadrature.rule(name, 5)
    np.testing.assert_allclose(nodes, 1 - nodes[::-1], atol=1e-15)
    np.testing.assert_allclose(weights, weights[::-1])


@pytest.mark.parametrize(("name", "count"), [("trapezoid", 1), ("simpson", 4), ("simpson", 1)])
def test_too_few_points(name, count):
    with pytest.raises(ValueError, match="`num_points`"):
        quadrature.rule(name, count)


def test_trapezoid_weights_integrate_a_broken_line_exactly():
    x = np.array([0.0, 0.3, 0.4, 1.0])
    y = np.array([1.0, -2.0, 5.0, 0.5])
    found = quadrature.trapezoid_weights(np.diff(x)) @ y
    assert found == pytest.approx(np.trapezoid(y, x), rel=1e-14)
