"""The loss of an example: what belongs to which output, what it depends on, what describes it."""
