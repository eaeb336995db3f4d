import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from thesis_tf import gsn
from thesis_tf.mcmc import Chains, Diagnostics, FunctionKernel, sample_chain
from thesis_tf.persistence import arrays

DIAGNOSTICS = Diagnostics(
    np.array([4.0, 2.0]), np.array([1.0, 1.5]), acceptance=np.array([0.25, 0.75])
)


def test_a_summary_and_a_short_repr():
    chains = Chains(np.zeros((5, 2, 3), np.float32), DIAGNOSTICS, tf.zeros((2, 3)))
    assert chains.acceptance == 0.5
    assert chains.summary() == {
        "num_results": 5,
        "num_chains": 2,
        "effective_sample_size": 2.0,
        "r_hat": 1.5,
        "acceptance": 0.5,
    }
    assert repr(chains) == (
        "Chains(samples=float32 (5, 2, 3), effective_sample_size=2, r_hat=1.5, acceptance=0.5)"
    )
    assert chains.table() == (
        "property                        value\n"
        "results of each chain               5\n"
        "chains                              2\n"
        "smallest effective sample size      2\n"
        "largest R-hat                     1.5\n"
        "acceptance                        0.5\n"
        "The chains have not mixed: R-hat 1.5 (near 1 if they had)."
    )
    unknown = Diagnostics(np.array([np.nan]), np.array([np.nan]))
    chains = dataclasses.replace(chains, diagnostics=unknown)
    assert chains.acceptance is None
    assert "r_hat=unknown" in repr(chains)
    assert chains.table().splitlines()[-1].split() == ["largest", "R-hat", "-"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        chains.samples = None


def test_they_are_saved_and_continue(tmp_path):
    model = gsn.GSN([5, 4, 3])
    model.build((None, 3))
    kernel = model.transition_kernel()
    x = np.eye(3, dtype=np.float32)
    chains = sample_chain(kernel, x, 6)
    chains.save(tmp_path / "chains.npz")
    again = Chains.load(tmp_path / "chains.npz", like=kernel.initial_state(x))
    np.testing.assert_array_equal(again.samples, chains.samples)
    assert isinstance(again.final_state, gsn.State)
    assert again.acceptance is None
    more = [sample_chain(kernel, one.final_state, 2, seed=1).samples for one in (chains, again)]
    np.testing.assert_array_equal(*more)
    flat = Chains.load(tmp_path / "chains.npz").final_state
    np.testing.assert_array_equal(flat[0], chains.final_state.x)

    still = sample_chain(FunctionKernel(lambda x, seed: x), x, 4)
    still.save(tmp_path / "still.npz")
    np.testing.assert_array_equal(Chains.load(tmp_path / "still.npz").final_state, x)


def test_a_file_of_something_else(tmp_path):
    arrays.save(tmp_path / "other.npz", {"samples": np.zeros(3)})
    with pytest.raises(ValueError, match=r"a file that Chains\.save wrote"):
        Chains.load(tmp_path / "other.npz")
    with pytest.raises(FileNotFoundError):
        Chains.load(tmp_path / "none.npz")
