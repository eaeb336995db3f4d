"""Figure 7.3: whether importance sampling generalizes as well as uniform SGD."""

import pathlib
from typing import Any

from bin.reproduction.chapters.chapter_7 import common
from bin.reproduction.engine.contract import NO_NUMBER, Claim, verdict_of_difference

TITLE = "Test error by importance sampling and by uniform SGD"
CAPTION = (
    "The runs of figure 7.2: medians and quartiles of the test error, over steps and over time. As"
    " there, one process does all the work, so only steps can be compared. Standard errors include"
    " the variation between runs and between test examples."
)
AFTER = ("7.2",)
CONFIGS = common.configs(quick=5, full=10)


def run(config: common.Config) -> dict[str, Any]:
    """Returns the runs of both methods at every setting."""
    return common.result_of(config)


def draw(result: dict[str, Any], path: pathlib.Path) -> None:
    """Draws the test error over steps and over time."""
    common.draw_curves(result, [("test_error", "steps"), ("test_error", "seconds")], path)


def claims(result: dict[str, Any]) -> list[Claim]:
    """Claims: test errors fall faster, and are not larger at the end."""
    found = []
    for setting in result["settings"]:
        lower, error = common.lower(setting, "test_error", "while_training")
        last, of_last = common.lower(setting, "test_error", "at_the_end")
        found += [
            Claim(
                f"The test error is lower during training ({setting['label']}).",
                NO_NUMBER,
                f"{common.in_words(lower, error)} at equal steps, mean over training",
                verdict_of_difference(lower, error),
            ),
            Claim(
                f"Generalization is not harmed ({setting['label']}).",
                NO_NUMBER,
                f"test error {common.in_words(last, of_last)} at the end",
                verdict_of_difference(last, of_last),
            ),
        ]
    return found
