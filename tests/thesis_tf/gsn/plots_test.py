import numpy as np
import pytest

from thesis_tf.gsn import (
    Inpainting,
    draw_chain_images,
    draw_histograms,
    draw_inpainting,
    draw_scaling,
)

RNG = np.random.default_rng(0)


def test_chains_a_row_each(tmp_path, svg_texts):
    path = tmp_path / "c.svg"
    draw_chain_images(RNG.uniform(size=(30, 4, 5, 6)), path, chains=3, columns=7, title="t")
    assert {"chain 1", "chain 3", "t"} <= set(svg_texts(path))
    assert "chain 4" not in svg_texts(path)
    draw_chain_images(RNG.uniform(size=(2, 1, 5, 6, 3)), path)
    assert path.read_text().count("<image") == 1
    with pytest.raises(ValueError, match="`images` must be images"):
        draw_chain_images(np.zeros((3, 4, 5)), path)


def test_inpainting(tmp_path, svg_texts):
    path = tmp_path / "i.svg"
    truth = RNG.uniform(size=(4, 6, 6, 1))
    mask = np.zeros((6, 6, 1), bool)
    mask[:, :3] = True
    draw_inpainting(Inpainting(truth, mask, np.stack([truth] * 2)), path, title="t")
    assert {"known", "run 1", "run 2", "truth", "t"} <= set(svg_texts(path))


def test_scaling_and_histograms(tmp_path, svg_texts):
    path = tmp_path / "s.svg"
    draw_scaling({"binary": [1, 0.8, 0.7], "real": [1, 1.2, 1.3]}, path, title="t")
    assert {"binary", "real", "t", "step of walkback k"} <= set(svg_texts(path))
    shares = np.full(5, 0.2)
    draw_histograms(
        {"data": shares, "chain": shares}, path, errors={"chain": shares / 9}, truth=shares
    )
    assert {"data", "chain", "truth", "state"} <= set(svg_texts(path))
    with pytest.raises(ValueError, match=r"ends in \.png"):
        draw_scaling({}, tmp_path / "s.gif")


def test_every_scaling_is_drawn(tmp_path, svg_texts):
    """Also if there are more than colors."""
    factors = {f"scaling {number}": np.ones(3) for number in range(20)}
    draw_scaling(factors, tmp_path / "a.svg")
    assert factors.keys() <= set(svg_texts(tmp_path / "a.svg"))


@pytest.mark.parametrize("count", [0, 3])
def test_histograms_that_would_be_left_out(tmp_path, count):
    histograms = {str(number): np.ones(3) / 3 for number in range(count)}
    with pytest.raises(ValueError, match="one or two histograms"):
        draw_histograms(histograms, tmp_path / "a.svg")
