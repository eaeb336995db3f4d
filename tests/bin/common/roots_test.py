import subprocess
import sys

import pytest

import bin
import models
import thesis_tf
from bin.common import roots


@pytest.mark.parametrize("package", [bin, models, thesis_tf], ids=lambda p: p.__name__)
def test_packages_are_imported_from_their_root(package):
    root = roots.of_package(package.__name__)
    assert root.is_absolute()
    assert (root / package.__name__ / "__init__.py").samefile(package.__file__)


def test_programs_start_in_their_folder():
    # `-c` and `-m` search the working directory first.
    command = [sys.executable, "-c", "import bin.common.roots as r; print(r.programs())"]
    done = subprocess.run(
        command, cwd=roots.programs(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(roots.programs())


def test_the_library_may_be_elsewhere(tmp_path, monkeypatch):
    # In a wheel, the programs are in another folder.
    monkeypatch.setattr(thesis_tf, "__file__", str(tmp_path / "thesis_tf" / "__init__.py"))
    assert roots.of_package("thesis_tf") == tmp_path.resolve()
    assert roots.of_package("models") == roots.of_package("bin") == roots.programs() != tmp_path
