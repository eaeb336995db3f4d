import numpy as np

from thesis_tf.plotting.images import draw_images

RNG = np.random.default_rng(0)


def test_images_in_rows(tmp_path, svg_texts):
    path = tmp_path / "images.svg"
    rows = {"gray": RNG.uniform(size=(14, 4, 4)), "color": RNG.normal(size=(3, 5, 4, 3))}
    draw_images(rows, path, title="i")
    assert {"gray", "color", "i"} <= set(svg_texts(path))
    assert path.read_text().count("<image") == 3
