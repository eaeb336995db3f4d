"""Lua scripts that Redis executes atomically for a store; each is a file in `lua/`.

Writing to weights that don't exist would create zeros for all others, so each script checks first.

In every script KEYS[1] is the key of the run, whose value begins with the run's 16 digits, and
ARGV[1] is those digits. Times are the server's.
"""

import hashlib
import importlib.resources

# The first word of a script's error if the run doesn't exist.
RUN_LOST = "RUNLOST"


class Script:
    """A Lua script that the server runs atomically.

    Args:
        name: the name of its file, without the suffix.
        preludes: names of files that are prepended: "check" checks whether the run exists, "now"
            reads the server's clock.
    """

    def __init__(self, name: str, *preludes: str) -> None:
        folder = importlib.resources.files(__package__).joinpath("lua")
        files = (folder.joinpath(f"{part}.lua") for part in (*preludes, name))
        self.text = "\n".join(file.read_text(encoding="utf-8") for file in files)
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


CREATE = Script("create")
SET_FINISHED = Script("set_finished", "check")
CLAIM_MASTER = Script("claim_master", "check", "now")
RELEASE_MASTER = Script("release_master", "check")
SET_HEAD = Script("set_head", "check")
LEASE = Script("lease", "check", "now")
RELEASE = Script("release", "check")
WRITE_BLOCK = Script("write_block", "check")
WRITE_VALUES = Script("write_values", "check")
HEARTBEAT = Script("heartbeat", "check", "now")
ALIVE = Script("alive", "check", "now")
