from bin.reproduction.engine import contract, verdicts
from bin.reproduction.engine.verdicts import Status


def test_a_summary(written):
    said = verdicts.summary(written.entries)
    assert said == (
        "1 of 3 figures and tables. Of 2 claims 1 holds, 1 does not hold. 1 failed."
        " Without data or weights: 1."
    )


def test_verdicts_in_words():
    one, two, none = (dict.fromkeys(contract.Verdict, number) for number in (1, 2, 0))
    assert verdicts.in_words(one) == (
        "1 holds, 1 does not hold, 1 cannot be told at this budget, 1 cannot be compared"
    )
    assert verdicts.in_words(two) == (
        "2 hold, 2 do not hold, 2 cannot be told at this budget, 2 cannot be compared"
    )
    assert verdicts.in_words(none) == ""


def test_counts(written):
    found = verdicts.counts(written.entries)
    assert found.figures == {Status.DONE: 1, Status.FAILED: 1, Status.WITHOUT: 1}
    assert list(found.claims.values()) == [1, 1, 0, 0]


def test_why_there_is_no_picture(written):
    done, failed, without = written.entries
    assert failed.why_not().startswith("Failed. ValueError: <no>")
    assert without.why_not() == "Not computed: it needs mnist.npz (--data_dir)."
    assert [entry.heading for entry in (failed, without)] == ["Figure 1.2", "Table 1.3: Errors"]
    assert done.heading.startswith("Figure 1.1: a <b>")
