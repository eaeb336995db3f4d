import dataclasses

import numpy as np
import pytest
from matplotlib import image

from thesis_tf.autoencoders import (
    ScoreEstimator,
    draw_attractors,
    draw_points,
    draw_score_field,
    draw_spectrum,
    find_attractors,
    score_field,
)

RNG = np.random.default_rng(0)
PULL = ScoreEstimator(lambda x: 0.5 * x, sigma=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(2,), (5,), (3, 3, 1)])
def test_a_field_of_arrows_in_a_plane(shape, tmp_path, svg_texts):
    data = RNG.normal(size=(60, *shape))
    attractors = find_attractors(PULL, data, data[:5] * 3)
    path = tmp_path / "field.svg"
    field = score_field(PULL, data, num_arrows=7)
    draw_score_field(field, path, attractors=attractors, title="f")
    texts = svg_texts(path)
    expected = "x1" if shape == (2,) else "first principal component"
    assert {"f", expected, "data"} <= set(texts)
    assert any("attractors" in text for text in texts)
    assert any("data are off it" in text for text in texts) == (shape != (2,))


@pytest.mark.parametrize(
    ("offset", "label"),
    [
        (0, "attractors within sigma of an example"),
        (3, "attractors that are spurious"),
        (50, "attractors that are spurious (1 of 1 outside)"),
    ],
)
def test_a_curve_of_one_value(offset, label, tmp_path, svg_texts):
    data = RNG.normal(size=(60, 1)) + offset  # the attractor is 0
    attractors = find_attractors(PULL, data, data)
    draw_score_field(score_field(PULL, data), tmp_path / "c.svg", attractors=attractors)
    texts = svg_texts(tmp_path / "c.svg")
    assert {"r(x) − x", "data", label} <= set(texts)
    assert sum("attractors" in text for text in texts) == 1


@pytest.mark.parametrize("shape", [(2,), (5,)])
def test_attractors_outside_of_a_field_are_counted(shape, tmp_path, svg_texts):
    data = RNG.normal(size=(60, *shape)) + 50
    attractors = find_attractors(PULL, data, data[:5])
    path = tmp_path / "field.svg"
    field = score_field(PULL, data, num_arrows=5)
    draw_score_field(field, path, attractors=attractors, title="its title")
    assert "attractors that are spurious (1 of 1 outside)" in svg_texts(path)
    draw_score_field(field, tmp_path / "field.png", attractors=attractors, title="a title\nof two")
    assert (image.imread(tmp_path / "field.png")[:4] == 1).all()  # the title isn't cut off


def test_samples_of_one_value(tmp_path, svg_texts):
    draw_points({n: RNG.normal(size=(30, 1)) for n in ("data", "samples")}, tmp_path / "s.svg")
    assert {"density", "data", "samples"} <= set(svg_texts(tmp_path / "s.svg"))


@pytest.mark.slow
@pytest.mark.parametrize(("size", "panels"), [(2, 3), (3, 3), (10, 12)])
def test_samples_in_planes_of_two_values(size, panels, tmp_path, svg_texts):
    samples = {name: RNG.normal(size=(30, size)) for name in ("data", "noisy", "samples")}
    path = tmp_path / "samples.svg"
    draw_points(samples, path, title="all")
    texts = svg_texts(path)
    assert {"all", *samples} <= set(texts)
    assert texts.count("x1") == 3
    assert sum(text in ("x2", "x4", "x6", "x8") for text in texts) == panels
    notes = [text for text in texts if text.endswith("not shown")]
    assert notes == {2: [], 3: ["x3 is not shown"], 10: ["x9 to x10 are not shown"]}[size]


def test_panels_have_equal_numbers_of_points(tmp_path):
    samples = {n: RNG.normal(size=(count, 2)) for n, count in (("data", 7), ("samples", 40))}
    path = tmp_path / "s.svg"
    draw_points(samples, path, caption="The chains have not mixed: R-hat 5.")
    text = path.read_text()
    first, second = text.index('id="axes_1"'), text.index('id="axes_2"')
    assert text[first:second].count("<use ") > 7  # ticks are drawn in the same way
    assert text[first:second].count("<use ") == text[second:].count("<use ")


@pytest.mark.slow
def test_spectra_and_attractors(tmp_path, svg_texts):
    x = RNG.normal(size=(20, 3))
    path = tmp_path / "s.svg"
    draw_spectrum(PULL.tangent_directions(x), path, title="t")
    axes = {"rank", "eigenvalue of (J + J')/2, J = dr/dx", "asymmetry |J − J'| / 2|J|", "points"}
    assert {"t", *axes} <= set(svg_texts(path))
    turn = ScoreEstimator(lambda x: x @ np.array([[0, 1.0, 0], [-1, 0, 0], [0, 0, 1]]), sigma=1.0)
    draw_spectrum(turn.tangent_directions(x), path, title="t")
    assert "dr/dx is far from symmetric" in " ".join(svg_texts(path))
    path = tmp_path / "a.svg"
    draw_attractors(find_attractors(PULL, x + 50, x), path)
    texts = svg_texts(path)
    said = {
        "attractors that are spurious",
        "The area of a marker shows",
        "how many starts ended there.",
    }
    assert said <= set(texts)
    assert "to rest." not in texts
    half = dataclasses.replace(find_attractors(PULL, x + 50, x), labels=np.arange(20) % 2 - 1)
    draw_attractors(half, path)
    assert {"10 of 20 starts did not come", "to rest."} <= set(svg_texts(path))
    draw_attractors(find_attractors(ScoreEstimator(lambda x: 2 * x + 1, sigma=0.1), x, x), path)
    texts = " ".join(svg_texts(path))
    assert "No attractors" in texts
    assert "100 % of the 20 starts did not come to rest" in texts


def test_the_same_numbers_give_the_same_file(tmp_path):
    field = score_field(PULL, RNG.normal(size=(9, 2)), num_arrows=5)
    for name in ("a.png", "b.png"):
        draw_score_field(field, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    ("draw", "match"),
    [
        (lambda: draw_points({"a": np.ones((3, 2))}, "a.bmp"), "a file that ends in .png"),
    ],
)
def test_bad_input(draw, match):
    with pytest.raises(ValueError, match=match):
        draw()
