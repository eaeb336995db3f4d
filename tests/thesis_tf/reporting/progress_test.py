import pytest

from thesis_tf.reporting import progress


@pytest.mark.parametrize(
    ("verbose", "lines"),
    [("auto", 0), (0, 0), (False, 0), (2, 1)],
)
def test_what_a_log_gets(verbose, lines, capsys):
    with progress.bar(verbose, total=3, description="work") as bar:
        for _ in range(3):
            bar.update()
            assert capsys.readouterr().err == ""
    assert capsys.readouterr().err.count("3/3") == lines


def test_a_bar_that_is_asked_for_shows_in_a_log(capsys):
    with progress.bar(1, total=3, description="work"):
        assert "work:   0%" in capsys.readouterr().err


def test_a_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with progress.bar("auto", total=3, description="work"):
        assert "work:   0%" in capsys.readouterr().err


def test_other_values_are_refused():
    with pytest.raises(ValueError, match=r"`verbose` must be one of auto, 0, 1, 2. Received: 3"):
        progress.bar(3)


def test_lines_stand_above_the_bar(capsys):
    with progress.bar(1, total=3, description="work"):
        progress.say("a worker left")
        said = capsys.readouterr().err
    assert "a worker left\n" in said
    assert "work:   0%" in said.rpartition("a worker left\n")[2]
