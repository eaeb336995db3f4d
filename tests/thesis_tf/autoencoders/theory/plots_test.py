import numpy as np

from thesis_tf.autoencoders.theory import ExactScores, ThreeWells, draw_exact_1d, exact_scores_1d


def test_exact_solutions_beside_the_truth(tmp_path, svg_texts):
    wells = ThreeWells()
    path = tmp_path / "a.svg"
    draw_exact_1d(exact_scores_1d(wells, wells.grid(200), (0.5, 0.1)), path, title="wells")
    texts = svg_texts(path)
    assert {"wells", "E(x)", "sigma = 0.5", "sigma = 0.1", "RCAE", "DAE"} <= set(texts)


def test_the_energy_alone(tmp_path, svg_texts):
    wells = ThreeWells()
    grid, none = wells.grid(50), np.zeros((0, 50))
    scores = ExactScores(grid, wells.energy(grid), wells.score(grid), np.zeros(0), none, none)
    path = tmp_path / "a.svg"
    draw_exact_1d(scores, path, title="wells")
    texts = svg_texts(path)
    assert {"wells", "E(x)"} <= set(texts)
    assert "score" not in texts
