"""The contents of a wheel: the library, and a console script for each program."""

import pathlib
import subprocess
import sys
import sysconfig

import pytest

OPTIMIZED_GRAPHS = True

ROOT = pathlib.Path(__file__).parents[1]
PROGRAMS = sorted(path.stem for path in ROOT.glob("bin/[a-z]*.py"))
SMALL = ("--examples=512,128,128", "--model=mlp")

pytestmark = pytest.mark.slow


def run(*command, cwd):
    """Runs a command outside of the checkout; returns its output; fails if the command fails."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tree():
    """Returns files that git tracks or would track, so that no build output is included."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("not a checkout of git")
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder of the scripts of an environment with the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in tree():
        if name.startswith(("thesis_tf/", "bin/", "models/")) or "/" not in name:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    build = (*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source)
    run(*build, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    run(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    # A .pth file adds its lines to the path, but .pth files in these folders are not read, so an
    # editable install of the checkout is not visible.
    packages = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = pathlib.Path(run(python, "-c", packages, cwd=folder).strip())
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *extra_paths()}
    (site / "dependencies.pth").write_text("".join(f"{path}\n" for path in sorted(paths)))
    return python.parent


def extra_paths():
    """Returns folders of packages that this environment uses from elsewhere."""
    return {path for path in sys.path if path.endswith("site-packages")}


@pytest.mark.slow
def test_the_library_comes_from_the_wheel_and_nothing_else_is_importable(installed, tmp_path):
    code = (
        "import importlib.util as u, thesis_tf, thesis_tf.datasets as d\n"
        "print(thesis_tf.__file__)\n"
        "print([name for name in ('bin', 'models') if u.find_spec(name)])\n"
        "print(d.load('mnist_mini').train.x.shape[0] > 0)\n"
    )
    where, found, loaded = run(installed / "python", "-c", code, cwd=tmp_path).splitlines()
    assert pathlib.Path(where).is_relative_to(installed.parent)
    assert found == "[]"
    assert loaded == "True"
    library = pathlib.Path(where).parent
    for name in [name for name in tree() if name.startswith("thesis_tf/")]:
        assert (library.parent / name).is_file(), name
    for name in [name for name in tree() if name.startswith(("bin/", "models/"))]:
        assert (library / "_programs" / name).is_file(), name


@pytest.mark.slow
def test_every_program_has_a_console_script(installed, tmp_path):
    scripts = {path.name for path in installed.glob("thesis-*")}
    assert scripts == {f"thesis-{name.replace('_', '-')}" for name in PROGRAMS}
    for script in sorted(scripts):
        done = subprocess.run([installed / script, "--help"], capture_output=True, text=True)
        assert "--output_dir" in done.stdout or script == "thesis-issgd-worker", done.stderr
        assert "flags:" in done.stdout


@pytest.mark.slow
def test_a_program_runs_to_its_end(installed, tmp_path):
    small = ("--examples=128,64,64", "--model=mlp", "--epochs=0", "--reduction=mean")
    said = run(installed / "thesis-probe", *small, "--noexport", "--output_dir=out", cwd=tmp_path)
    assert "All results are in out" in said
    assert list((tmp_path / "out").rglob("*.png"))


@pytest.mark.slow
def test_a_master_starts_workers_from_the_wheel(installed, tmp_path):
    master = (installed / "thesis-issgd-master", *SMALL, "--block_size=64", "--steps=64")
    said = run(*master, "--local_workers=1", "--mode=exact", "--output_dir=out", cwd=tmp_path)
    assert "All results are in out" in said
    assert (tmp_path / "out" / "model.keras").is_file()


@pytest.mark.slow
def test_figures_are_computed_in_processes_of_their_own(installed, tmp_path):
    run(installed / "thesis-reproduce", "--figures=3.4", "--output_dir=out", cwd=tmp_path)
    assert (tmp_path / "out" / "index.html").is_file()
