"""One module per figure or table of the thesis that comes from a computation.

Each module has

    TITLE       the title of the figure
    CAPTION     how to read the figure, and how it differs from the thesis
    CONFIGS     {"quick": Config(...), "full": Config(...)}, frozen `contract.Settings`
    AFTER       names of figures that must be computed first because they share studies; optional
    run         config -> result: nested dicts of numbers, strings, lists and NumPy arrays
    draw        (result, path) -> None: draws the figure as in the thesis
    claims      result -> [`contract.Claim`, ...]: the thesis' claims, with the measured values

`run` calls the library and implements no algorithms. A computation that several figures share is a
function in `studies` of the chapter with the decorator `@study_cache.shared`, and is computed once.
A module doesn't import TensorFlow before `run` is called.
"""
