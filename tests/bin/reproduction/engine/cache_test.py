import dataclasses

from bin.reproduction.engine import cache, catalogue, code_hash

(FIGURE,) = catalogue.select(["3.4"])
CONFIG = FIGURE.load().CONFIGS["quick"]


def test_paths_are_of_config_and_code(tmp_path, monkeypatch):
    kept = cache.Cache(tmp_path)
    result, shown = kept.result(FIGURE, CONFIG), kept.shown(FIGURE, CONFIG)
    assert result.parent.name == "results"
    assert shown.parent.name == "shown"
    other = dataclasses.replace(CONFIG, points=500)
    assert kept.result(FIGURE, other) != result
    assert kept.shown(FIGURE, other) != shown
    # The expected time is not a part of the hash.
    assert kept.result(FIGURE, dataclasses.replace(CONFIG, expected_seconds=77)) == result

    def drawn_otherwise(module, *, showing=True):
        return "drawn otherwise" if showing else real(module, showing=False)

    real = code_hash.of_module
    monkeypatch.setattr(code_hash, "of_module", drawn_otherwise)
    assert kept.result(FIGURE, CONFIG) == result
    assert kept.shown(FIGURE, CONFIG) != shown


def test_what_is_not_there_reads_as_none(tmp_path):
    assert cache.Cache(tmp_path).read(FIGURE, CONFIG) is None
