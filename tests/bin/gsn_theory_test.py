import pytest


@pytest.mark.slow
def test_from_the_command_line(start_any_program, tmp_path):
    said = start_any_program(
        "gsn_theory", "--problems=2", "--perturbations=3", f"--output_dir={tmp_path}/run"
    ).finish()
    assert said.count("stationary distributions within") == 5
    assert "Theorem 4 held on 3 of 3 perturbations" in said
    assert f"All results are in {tmp_path}/run." in said
    assert (tmp_path / "run/theory.json").exists()


def test_help_teaches_at_once(help_of):
    said = help_of("gsn_theory")
    for word in ("--problems", "--perturbations", "--seed", "--output_dir"):
        assert word in said
