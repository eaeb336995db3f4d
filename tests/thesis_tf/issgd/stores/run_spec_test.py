import dataclasses
import json

import pytest

from thesis_tf.issgd.stores import RunMismatchError, RunSpec, StoreError

SPEC = RunSpec("model", "data", (("train", 4097), ("test", 10)), 100)


def test_json_both_ways():
    assert RunSpec.from_json(SPEC.to_json()) == SPEC
    assert hash(RunSpec.from_json(SPEC.to_json())) == hash(SPEC)


def test_lists_are_taken_too():
    assert RunSpec("model", "data", [["train", 4097], ["test", 10]], 100) == SPEC


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"model": 3}, TypeError, "`model` must be a string"),
        ({"data": None}, TypeError, "`data` must be a string"),
        ({"parameter_bytes": 0}, ValueError, "`parameter_bytes` must be a positive integer"),
        ({"block_size": 2.0}, TypeError, "`block_size` must be a positive integer"),
        ({"splits": ()}, ValueError, "one or more splits"),
        ({"splits": (("a", 1), ("a", 2))}, ValueError, "of different names"),
        ({"splits": (("a", 0),)}, ValueError, "examples of 'a' must be a positive"),
        ({"splits": (("a b", 1),)}, ValueError, "The name of a split must be"),
        ({"splits": ("train", 5)}, TypeError, "pairs|positive integer"),
        ({"splits": 5}, TypeError, r"\(name, number of examples\) pairs"),
    ],
)
def test_what_is_no_spec(change, kind, message):
    with pytest.raises(kind, match=message):
        dataclasses.replace(SPEC, **change)


def test_blocks():
    assert SPEC.num_blocks("train") == 3
    assert [SPEC.block_range("train", b) for b in range(3)] == [
        (0, 2048),
        (2048, 4096),
        (4096, 4097),
    ]


def test_a_format_of_another_time():
    text = json.dumps({**json.loads(SPEC.to_json()), "format": 2, "more": 1})
    with pytest.raises(RunMismatchError, match=r"made in format 2.*writes format 1"):
        RunSpec.from_json(text)


@pytest.mark.parametrize("text", ["", "[]", '{"format": 1}', '{"format": 1, "splits": 3}'])
def test_what_describes_no_run(text):
    with pytest.raises(StoreError, match="invalid description"):
        RunSpec.from_json(text)
