import pytest

from thesis_tf.hessian import SpectrumEntry, SpectrumHistory

HISTORY = SpectrumHistory(
    (
        SpectrumEntry(0, 2.5, (3.0, 2.0), (-1.0,), True, 9, fingerprint="abc"),
        SpectrumEntry(
            10,
            0.5,
            (4.0, 2.5),
            (-0.25,),
            False,
            12,
            fingerprint="def",
            largest_angles=(12.0, 1.0),
            smallest_angles=(80.0,),
        ),
    )
)


def test_shown():
    *table, said = HISTORY.table().splitlines()
    assert said == "At 1 of 2 steps (10) eigenpairs have not converged."
    assert [row.split() for row in table] == [
        ["step", "loss", "largest", "turned", "smallest", "turned"],
        ["0", "2.5000", "3", "-", "-1", "-"],
        ["10", "0.5000", "4", "12.0°", "-0.25", "80.0°"],
    ]
    assert repr(HISTORY) == "SpectrumHistory(2 entries, steps 0 to 10)"
    assert HISTORY.summary() == {
        "step": [0, 10], "loss": [2.5, 0.5], "largest": [3.0, 4.0], "smallest": [-1.0, -0.25],
    }  # fmt: skip
    assert repr(SpectrumHistory(())) == "SpectrumHistory(0 entries)"


def test_saving(tmp_path):
    HISTORY.save(tmp_path / "history.json")
    assert SpectrumHistory.load(tmp_path / "history.json") == HISTORY
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(ValueError, match="must hold the entries of a SpectrumHistory"):
        SpectrumHistory.load(tmp_path / "other.json")
