import json

import numpy as np
import pytest
from absl.testing import flagsaver

from bin import gsn_theory
from bin.common import flags


@pytest.mark.slow
def test_every_claim_and_everything_that_is_written(tmp_path):
    with flagsaver.flagsaver(problems=20, perturbations=100):
        found = gsn_theory.run(flags.read(gsn_theory.Config), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "theory.json",
        "histogram.png",
        "manifold.png",
    }
    assert json.loads((tmp_path / "theory.json").read_text()) == found
    assert len(found["propositions"]["distance"]) == 5
    # The linear systems have at most 64 states.
    assert max(found["propositions"]["distance"].values()) < 1e-12
    assert found["theorem_4"]["held"] == 100
    assert 0 < found["theorem_4"]["median_distance_to_bound"] <= 1
    assert found["histogram"]["p_value"] > 1e-4
    assert np.sum(found["histogram"]["chain"]) == 1
    # Chains are as difficult to distinguish from the data as independent draws of the kernels.
    chains, kernels = (found["manifold"][name] for name in ("chains", "kernels_alone"))
    away = chains["two_sample_accuracy"] - kernels["two_sample_accuracy"]
    error = np.hypot(chains["two_sample_standard_error"], kernels["two_sample_standard_error"])
    assert abs(away) < 5 * error


def test_help_teaches_at_once(help_of):
    said = help_of("gsn_theory")
    for word in ("--problems", "--perturbations", "--seed", "--output_dir"):
        assert word in said
