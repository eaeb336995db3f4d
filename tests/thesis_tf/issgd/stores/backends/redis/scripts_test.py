import hashlib
import importlib.resources

from thesis_tf.issgd.stores.backends.redis import scripts

SCRIPTS = {
    name: value for name, value in vars(scripts).items() if isinstance(value, scripts.Script)
}


def test_every_file_is_a_script_or_a_prelude():
    folder = importlib.resources.files("thesis_tf.issgd.stores.backends.redis").joinpath("lua")
    names = {path.name.removesuffix(".lua") for path in folder.iterdir()}
    made = {
        name.lower() for name, value in vars(scripts).items() if isinstance(value, scripts.Script)
    }
    assert names == made | {"check", "now"}


def test_redis_knows_a_script_by_its_hash():
    script = scripts.SET_FINISHED
    assert script.sha == hashlib.sha1(script.text.encode()).hexdigest()


def test_scripts_look_whether_the_run_is_there():
    for name, script in SCRIPTS.items():
        if name != "CREATE":
            assert f"{scripts.RUN_LOST} no such run" in script.text, name


def test_redis_takes_every_script(shared_redis):
    for name, script in SCRIPTS.items():
        assert shared_redis.cli("SCRIPT", "LOAD", script.text) == script.sha, name
