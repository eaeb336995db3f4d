from thesis_tf.autoencoders.theory import ThreeWells, draw_exact_1d, rcae_score_1d


def test_exact_solutions_beside_the_truth(tmp_path, svg_texts):
    wells = ThreeWells()
    grid = wells.grid(200)
    estimates = {s: {"RCAE": rcae_score_1d(wells, grid, s)} for s in (0.5, 0.1)}
    path = tmp_path / "a.svg"
    draw_exact_1d(grid, wells.energy(grid), wells.score(grid), estimates, path, title="wells")
    texts = svg_texts(path)
    assert {"wells", "E(x)", "sigma = 0.5", "sigma = 0.1", "RCAE"} <= set(texts)


def test_the_energy_alone(tmp_path, svg_texts):
    wells = ThreeWells()
    grid = wells.grid(50)
    path = tmp_path / "a.svg"
    draw_exact_1d(grid, wells.energy(grid), wells.score(grid), {}, path, title="wells")
    texts = svg_texts(path)
    assert {"wells", "E(x)"} <= set(texts)
    assert "score" not in texts
