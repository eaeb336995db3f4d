"""Files of runs: atomic writing, arrays, checkpoints, locks, fingerprints.

    from thesis_tf.persistence import files

Its modules are imported one by one, since `checkpoint` imports Keras.
"""

__all__ = ["arrays", "checkpoint", "files", "fingerprint", "locks"]
