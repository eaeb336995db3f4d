"""One module per figure or table of the thesis that comes from a computation.

Each has

    TITLE       what it shows, in a line
    CAPTION     how to read it, and how it differs from the thesis
    CONFIGS     {"quick": Config(...), "full": Config(...)}, frozen `contract.Settings`
    AFTER       names of figures whose studies it shares and so waits for; () if it is left out
    run         config -> result: nested dicts of numbers, strings, lists and NumPy arrays
    draw        (result, path) -> None: the picture, as the thesis shows it
    claims      result -> [`contract.Claim`, ...]: what the thesis says of it, and what was found

`run` calls the library and holds no algorithm of its own; what several figures compute is a study
in `studies` of its chapter, under `@study_cache.shared`, computed once for all of them. A module
imports no TensorFlow until it runs.
"""
