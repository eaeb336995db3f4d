import functools
import json
import uuid

import pytest

from thesis_tf.issgd.stores import RunNotFoundError, open_store

PEER = "issgd_peer"


@pytest.mark.slow
def test_two_peers_on_redis(start_program, redis_server, records, tmp_path):
    """They find one another, survive a crash of the server, and continue after a kill."""
    name = uuid.uuid4().hex
    folders = {peer: tmp_path / peer for peer in "ab"}

    def start(peer):
        return start_program(
            PEER, f"--peer_name={peer}", f"--run_id={name}", f"--output_dir={folders[peer]}",
            "--steps=1000000", "--sync_every=8", "--checkpoint_every=64", "--batch_size=16",
            ISSGD_STORE=redis_server.url,
        )  # fmt: skip

    peers = {peer: start(peer) for peer in "ab"}

    def step(peer):
        return max((record["step"] for record in records(folders[peer])), default=0)

    def has_exchanged(peer, since):
        return any(
            record.get("exchanged_with") == {"a": "b", "b": "a"}[peer]
            for record in records(folders[peer])
            if record["step"] > since
        )

    def exchange():
        """Waits until both peers have fetched parameters of the other."""
        for peer, program in peers.items():
            program.until(functools.partial(has_exchanged, peer, step(peer)))

    def go_on_alone(peer):
        peers[peer].until(lambda: "training continues" in peers[peer].said)
        before = step(peer)
        peers[peer].until(lambda: step(peer) > before + 32)

    exchange()
    redis_server.stop()
    for peer in peers:
        go_on_alone(peer)
    redis_server.start()
    exchange()

    peers["a"].until(lambda: step("a") > 64)
    peers["a"].kill()
    killed, before = step("a"), step("b")
    peers["b"].until(lambda: step("b") > before + 32)
    peers["a"] = start("a")
    peers["a"].until(lambda: step("a") > killed)
    steps = [record["step"] for record in records(folders["a"])]
    assert steps == list(range(8, 8 * len(steps) + 8, 8))
    exchange()
    for program in peers.values():
        program.kill()


@pytest.mark.slow
def test_one_alone_to_its_end(start_program, tmp_path):
    name = uuid.uuid4().hex
    peer = start_program(
        PEER, "--peer_name=a", f"--run_id={name}", f"--output_dir={tmp_path}", "--steps=64"
    )
    assert "Test examples: loss" in peer.finish()
    assert {"training.png", "model.keras", "metrics.json"} <= {p.name for p in tmp_path.iterdir()}
    store = open_store(f"shm://{name}", run_id=name)
    try:
        store.join()
        assert store.head(slot="a") == 64
    finally:
        store.delete()
    with pytest.raises(RunNotFoundError):
        store.join()


@pytest.mark.slow
def test_a_peer_without_others_says_so(start_program, tmp_path):
    name = uuid.uuid4().hex
    peer = start_program(
        PEER, "--peer_name=a", f"--run_id={name}", f"--output_dir={tmp_path / 'a'}", "--steps=64",
        "--sync_every=16",
    )  # fmt: skip
    assert peer.wait() == 3, peer.said
    open_store(f"shm://{name}", run_id=name).delete()
    said = [line[9:] for line in peer.said.splitlines() if line.startswith("warning: ")]
    assert any(line.startswith("This peer trained alone") for line in said)
    assert json.loads((tmp_path / "a/outcome.json").read_text())["warnings"] == said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--peer_name is required"),
        (["--peer_name=a", "--smoothing=x"], "must be X or relative:X"),
        (["--peer_name=a", "--mixing_fraction=2"], "--mixing_fraction"),
        (["--peer_name=a/b"], "1 to 64 letters, digits"),
    ],
)
def test_bad_flags_are_one_line(start_program, tmp_path, arguments, message):
    peer = start_program(PEER, f"--output_dir={tmp_path / 'x'}", *arguments)
    assert peer.wait() != 0
    assert message in peer.said
    assert "Traceback" not in peer.said


def test_help_answers_without_tensorflow(help_of):
    shown = help_of(PEER)
    for flag in ("--peer_name", "--syncs_per_exchange", "--mixing_fraction", "--store", "--run_id"):
        assert f"  {flag}" in shown
