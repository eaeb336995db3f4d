import textwrap

import pytest

from bin.reproduction.engine import code_hash

FILES = {
    "bin/__init__.py": "",
    "bin/reproduction/chapters/__init__.py": '"""Doc."""',
    "bin/reproduction/chapters/a.py": """
        '''Doc.'''
        import dataclasses
        from bin.reproduction.chapters.b import helper  # why

        TITLE = "A title"
        LIMIT = 3

        def run(config):
            '''Doc.'''
            from thesis_tf import area
            return area.compute(LIMIT)

        def draw(result, path):
            return helper(result)

        def claims(result):
            return 1
    """,
    "bin/reproduction/chapters/b.py": "def helper(x):\n    return x\n",
    "bin/reproduction/chapters/other.py": "x = 1\n",
    "thesis_tf/__init__.py": "",
    "thesis_tf/area/__init__.py": "from thesis_tf.area.inside import compute\n",
    "thesis_tf/area/inside.py": "from .deep import constant\ndef compute(x):\n    return x\n",
    "thesis_tf/area/deep.py": "constant = 1\n",
}


@pytest.fixture
def hashes(tmp_path, monkeypatch):
    """Returns a function from {path: (old, new)} to two hashes of the changed tree.

    The first is of all code, the second of the code that computes.
    """

    def of(changes):
        for path, text in FILES.items():
            text = textwrap.dedent(text)
            if path in changes:
                old, new = changes[path]
                assert old in text
                text = text.replace(old, new)
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        monkeypatch.setattr(code_hash.roots, "of_package", lambda package: tmp_path)
        code_hash._parsed.cache_clear()
        module = "bin.reproduction.chapters.a"
        return code_hash.of_module(module), code_hash.of_module(module, showing=False)

    yield of
    code_hash._parsed.cache_clear()


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("bin/reproduction/chapters/a.py", "LIMIT = 3", "LIMIT = 4"),
        ("bin/reproduction/chapters/b.py", "return x", "return 2 * x"),
        ("thesis_tf/area/inside.py", "return x", "return -x"),
        ("thesis_tf/area/deep.py", "1", "2"),
    ],
)
def test_what_computes_counts_however_far_away(hashes, path, old, new):
    before, after = hashes({}), hashes({path: (old, new)})
    assert before[0] != after[0]
    assert before[1] != after[1]


@pytest.mark.parametrize(
    ("old", "new"), [("A title", "B"), ("return 1", "return 2"), ("helper(result)", "None")]
)
def test_what_shows_counts_for_what_is_shown_alone(hashes, old, new):
    before, after = hashes({}), hashes({"bin/reproduction/chapters/a.py": (old, new)})
    assert before[0] != after[0]
    assert before[1] == after[1]


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("bin/reproduction/chapters/a.py", "'''Doc.'''", "'''Another.'''"),
        ("bin/reproduction/chapters/a.py", "# why", "# because"),
        ("bin/reproduction/chapters/__init__.py", "Doc", "Other"),
        ("bin/reproduction/chapters/other.py", "1", "2"),
    ],
)
def test_comments_docstrings_and_strangers_do_not_count(hashes, path, old, new):
    assert hashes({}) == hashes({path: (old, new)})


def test_the_real_closure_has_the_area_and_no_other():
    found = code_hash._closure("bin.reproduction.chapters.chapter_3.fig_3_4", True)
    assert {"thesis_tf.autoencoders.theory.exact_1d", "bin.reproduction.engine.contract"} <= found
    assert not any(name.startswith(("thesis_tf.hessian", "thesis_tf.issgd")) for name in found)
