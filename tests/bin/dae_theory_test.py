import pytest
from absl.testing import flagsaver

from bin import dae_theory
from bin.common import runs


@pytest.mark.slow
def test_from_the_command_line(start_any_program, tmp_path):
    said = start_any_program(
        "dae_theory", "--points=400", "--dimensions=2", f"--output_dir={tmp_path}/run"
    ).finish()
    assert "relative error of the curvature (Eq 3.9)" in said
    assert f"All results are in {tmp_path}/run." in said
    assert (tmp_path / "run/theory.json").exists()


def test_bad_flags():
    with flagsaver.flagsaver(dimensions=["9"]), pytest.raises(runs.UsageError, match="from 1 to 6"):
        dae_theory.config_from_flags()


def test_help_answers_without_tensorflow(help_of):
    assert "--dimensions" in help_of("dae_theory")
