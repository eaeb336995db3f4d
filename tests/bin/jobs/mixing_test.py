import pytest

from bin.jobs import mixing


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({}, []),
        ({"r_hat": 1.05, "two_sample_accuracy": 0.51, "two_sample_standard_error": 0.01}, []),
        ({"r_hat": None, "two_sample_accuracy": 0.4, "two_sample_standard_error": 0.01}, []),
        ({"r_hat": 5.07}, ["The chains have not mixed: R-hat 5.07"]),
        (
            {"r_hat": 1.2, "two_sample_accuracy": 0.53, "two_sample_standard_error": 0.01},
            ["The chains have not mixed: R-hat 1.2", "The samples differ from the data: nearest"],
        ),
    ],
)
def test_bad_diagnostics_are_said(found, said):
    doubts = mixing.doubts(found)
    assert len(doubts) == len(said)
    assert all(doubt.startswith(start) for doubt, start in zip(doubts, said, strict=True))
