from bin.jobs.issgd import messages


def test_a_line_goes_to_stderr(capfd):
    messages.log("something happened")
    assert capfd.readouterr().err.strip() == "something happened"
