"""A figure from its config to its picture and claims, as `bin.reproduce` makes it."""

import pytest

from bin.reproduction import results
from bin.reproduction.contract import Claim, Verdict

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def through():
    """A function (module, config, folder) -> (result as it is read again, {sentence: claim})."""

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
