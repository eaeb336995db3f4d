"""Every figure and table of the thesis has a module that satisfies the contract."""

import dataclasses
import subprocess
import sys

import pytest

from bin.reproduction.engine import catalogue, contract

EXPECTED = [
    "3.3", "3.4", "3.5", "3.6", "3.7",
    "table_5.1", "5.3", "5.4", "5.6", "5.7", "5.8", "5.9", "5.10",
    "table_7.1", "7.2", "7.3", "7.4",
    "9.3", "9.4", "9.5", "9.6", "9.9",
    "11.1", "11.2", "11.3", "11.4", "11.5", "11.6", "11.7", "11.8",
]  # fmt: skip
FIGURES = catalogue.figures()


def test_all_that_come_from_a_computation_are_there():
    assert [figure.name for figure in FIGURES] == EXPECTED, "list a new figure in EXPECTED"


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_a_module_keeps_to_the_contract(figure):
    module = figure.load()
    assert figure.label.split()[1] in module.__doc__
    assert not module.TITLE.endswith(".")
    assert module.CAPTION.endswith(".")
    assert set(getattr(module, "AFTER", ())) <= {other.name for other in FIGURES} - {figure.name}
    quick, full = (module.CONFIGS[budget] for budget in contract.BUDGETS)
    assert quick.needs == ()
    for config in (quick, full):
        assert set(config.needs) | set(config.takes) <= set(contract.SOURCES)
        assert config.expected_seconds > 0
        with pytest.raises(dataclasses.FrozenInstanceError):
            config.seed = 1
    assert quick.settled(contract.Sources(), 5).plain()["seed"] == 5


def test_none_waits_for_itself_by_way_of_others():
    waits = {figure.name: getattr(figure.load(), "AFTER", ()) for figure in FIGURES}
    while waits:
        free = [name for name, before in waits.items() if not set(before) & waits.keys()]
        assert free, waits
        for name in free:
            del waits[name]


def test_no_module_loads_tensorflow_before_it_runs():
    code = (
        "import sys\nfrom bin.reproduction.engine import catalogue\n"
        "for figure in catalogue.figures():\n    figure.load()\n"
        "print(*[n for n in ('tensorflow', 'keras', 'matplotlib') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
