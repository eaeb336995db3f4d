"""Output for users: progress bars, TensorBoard, tables, and results with tables.

    from thesis_tf.reporting import progress

Its modules are imported one by one, since `summaries` imports TensorFlow.
"""

__all__ = ["progress", "results", "summaries", "tables"]
