import numpy as np

from thesis_tf.plotting.images import draw_images

RNG = np.random.default_rng(0)


def test_images_in_rows(tmp_path, svg_texts):
    path = tmp_path / "images.svg"
    rows = {"gray": RNG.uniform(size=(14, 4, 4)), "color": RNG.normal(size=(3, 5, 4, 3))}
    draw_images(rows, path, title="i")
    assert {"gray 1–12", "gray 13–14", "color", "i"} <= set(svg_texts(path))
    assert path.read_text().count("<image") == 3


def test_white_images_have_frames(tmp_path):
    from matplotlib import image

    path = tmp_path / "white.png"
    draw_images({"": np.ones((2, 4, 4))}, path, columns=2)
    drawn = image.imread(path)[..., :3]
    # Whole lines of the picture: the edges above and below, and four at the sides.
    dark = (drawn < 0.95).all(axis=2)
    assert (dark.mean(axis=1) > 0.5).sum() >= 2
    assert ((dark.mean(axis=0) > 0.5)[1:] > (dark.mean(axis=0) > 0.5)[:-1]).sum() == 4
