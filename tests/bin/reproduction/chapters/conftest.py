"""Takes a figure from its config to its image and claims, like `bin.reproduce`."""

import dataclasses

import pytest

from bin.reproduction.engine import results, study_cache
from bin.reproduction.engine.contract import Claim, Verdict

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def through():
    """Returns a function (module, config, folder) -> (result as read again, {sentence: claim})."""

    def make(module, config, folder):
        results.save(folder / "result", module.run(config))
        result = results.load(folder / "result")
        module.draw(result, folder / "picture.png")
        assert (folder / "picture.png").read_bytes().startswith(PNG)
        claims = module.claims(result)
        assert claims
        for claim in claims:
            assert isinstance(claim, Claim)
            assert isinstance(claim.verdict, Verdict)
            assert claim.sentence.endswith(".")
            assert claim.thesis
            assert claim.measured
        assert all(isinstance(note, str) for note in result.get("notes", []))
        return result, {claim.sentence: claim for claim in claims}

    return make


@pytest.fixture(scope="module")
def tiny_networks(tmp_path_factory):
    """Returns a function from a config of chapter 5 to a tiny one; equal ones are trained once."""

    def tiny(config):
        small = {"examples": (200, 60, 50), "layers": (8,) * len(config.layers), "batch_size": 50}
        small |= {
            "epochs": tuple(min(e, i) for i, e in enumerate(config.epochs, 1)),
            "scored": (2, 8, 2),
        }
        if hasattr(config, "classifier"):
            classifier = dataclasses.replace(config.classifier, examples=(200, 60, 50), epochs=1)
            small |= {"consecutive": (4, 10), "classifier": classifier, "completion_steps": 3}
            small |= {"completed": min(config.completed, 5)}
        else:
            small |= {"side": 10, "chains": (12, 6), "compared": 20}
        return dataclasses.replace(config, **small)

    with study_cache.kept_in(tmp_path_factory.getbasetemp() / "chapter_5"):
        yield tiny
