import pytest

from thesis_tf import errors


@pytest.mark.parametrize("kind", [ValueError, TypeError, OSError, FileNotFoundError])
def test_an_error_is_of_the_kind_that_was_asked_for_and_knows_its_argument(kind):
    error = errors.invalid("`seed`", "an integer", 1.5, "Round it.", kind=kind)
    assert isinstance(error, kind)
    assert isinstance(error, errors.ArgumentError)
    assert error.argument == "seed"
    assert str(error) == "`seed` must be an integer. Received: 1.5. Round it."


def test_a_program_names_its_flag():
    error = errors.invalid("`name_or_path`", "a name", "x", "See `load`.")
    assert error.message_for("--dataset") == "--dataset must be a name. Received: x. See `load`."
    assert errors.invalid("The data", "there", 0).message_for("--a") == (
        "The data must be there. Received: 0."
    )


def test_other_kinds_stay_what_they_are():
    assert type(errors.invalid("`a`", "b", "c", kind=RuntimeError)) is RuntimeError
