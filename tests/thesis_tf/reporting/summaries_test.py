import numpy as np
import tensorflow as tf

from thesis_tf.reporting.summaries import SummaryWriter


def read(folder):
    found = {}
    for path in sorted(folder.glob("events*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                found[value.tag, event.step] = tf.make_ndarray(value.tensor)
    return found


def test_scalars_and_images_are_what_tensorboard_reads(tmp_path):
    writer = SummaryWriter(tmp_path)
    writer.scalars(3, {"loss": 0.5})
    writer.images(4, "digits", np.full((2, 4, 4, 1), 2.0, np.float32))
    writer.close()
    writer.scalars(5, {"loss": 0.25})

    found = read(tmp_path)
    assert found["loss", 3] == 0.5
    assert found["loss", 5] == 0.25
    assert found["digits", 4].shape == (4,)  # width, height and two encoded images


def test_nothing_is_written_without_a_folder():
    writer = SummaryWriter(None)
    writer.scalars(0, {"loss": 1.0})
    writer.images(0, "digits", np.zeros((1, 4, 4, 1), np.float32))
    writer.close()


def test_no_folder_is_made_before_there_is_a_scalar(tmp_path):
    SummaryWriter(tmp_path / "logs").scalars(0, {})
    assert not (tmp_path / "logs").exists()
