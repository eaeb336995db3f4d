import json

import numpy as np
import pytest

from thesis_tf.mcmc import Diagnostics, effective_sample_size, r_hat


def test_diagnostics_of_known_chains():
    rng = np.random.default_rng(0)
    independent = rng.normal(size=(400, 8, 2))
    size = effective_sample_size(independent)
    assert (size > 0.7 * 3200).all()
    assert (size <= 3200).all()
    assert r_hat(independent).max() < 1.02
    # An autoregression with coefficient a has (1 - a) / (1 + a) effective samples per step.
    chain = [rng.normal(size=(8, 1))]
    for _ in range(20_000):
        chain.append(0.8 * chain[-1] + 0.6 * rng.normal(size=(8, 1)))
    expected = len(chain) * 8 / 9
    assert effective_sample_size(np.stack(chain))[0] == pytest.approx(expected, rel=0.15)
    apart = independent + 10 * np.arange(8)[:, None]
    assert r_hat(apart).min() > 5
    # Chains that stay apart have about one effective sample each.
    assert effective_sample_size(apart).max() < 16
    assert effective_sample_size(np.zeros((10, 8, 1)))[0] == 1
    one = effective_sample_size(independent[:, :1])
    assert (one > 200).all()


@pytest.mark.parametrize("estimate", [effective_sample_size, r_hat])
@pytest.mark.parametrize(
    ("samples", "match"),
    [
        (np.zeros((3, 2, 1)), "with at least 4 results"),
        (np.zeros(9), "with at least 4 results"),
        (np.full((9, 2, 1), np.nan), "finite"),
    ],
)
def test_bad_input(estimate, samples, match):
    with pytest.raises(ValueError, match=match):
        estimate(samples)


def test_a_result_in_short():
    found = Diagnostics(
        np.array([4.0, 2.0, 6.0]), np.array([1.0, 1.5, 1.25]), acceptance=np.array([0.25, 0.75])
    )
    assert found.table() == (
        "diagnostic             worst  median\n"
        "effective sample size      2       4\n"
        "R-hat                    1.5    1.25\n"
        "acceptance              0.25     0.5"
    )
    assert repr(found) == "Diagnostics(effective_sample_size=2, r_hat=1.5, acceptance=0.5)"
    unknown = Diagnostics(np.full(2, np.nan), np.full(2, np.nan))
    assert unknown.table().splitlines()[1].split()[-2:] == ["-", "-"]
    assert len(unknown.table().splitlines()) == 3
    assert json.loads(json.dumps(unknown.summary())) == {
        "effective_sample_size": None,
        "r_hat": None,
    }
