import numpy as np
import pytest

from thesis_tf.mcmc.folders import ChainFolder


def test_pieces_are_kept(tmp_path):
    folder = ChainFolder(tmp_path / "chains", {"seed": [0, 1]}, {"model": np.ones(2)})
    assert folder.read(0) is None
    folder.write(0, {"samples": np.arange(3)})
    # Another machine may round differently.
    again = ChainFolder(tmp_path / "chains", {"seed": (0, 1)}, {"model": np.ones(2) + 1e-5})
    np.testing.assert_array_equal(again.read(0)["samples"], [0, 1, 2])


@pytest.mark.parametrize(
    ("settings", "values", "differing"),
    [({"seed": 2}, [1.0], "seed"), ({"seed": 1}, [1.1], "model"), ({"seed": 1}, [1, 1], "model")],
)
def test_a_folder_of_other_chains(settings, values, differing, tmp_path):
    ChainFolder(tmp_path, {"seed": 1}, {"model": [1.0]})
    with pytest.raises(ValueError, match=f"holds chains of another {differing}"):
        ChainFolder(tmp_path, settings, {"model": values})


def test_a_piece_that_was_cut_short(tmp_path):
    folder = ChainFolder(tmp_path, {}, {})
    (tmp_path / "piece_00.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match="cut short"):
        folder.read(0)
