"""Values outlive a deploy: real processes are replaced, and few keys are loaded again."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from tests.cluster.conftest import Processes
from tests.support.environment import own_environment

KEYS = [f"key{number}" for number in range(1_000)]
ROOT = Path(__file__).parents[2]

# A warm job: it joins, loads half of its keys and sets the others, and leaves by its end alone, or by close.
JOB = """
import sys
from kamacache import Node

registry, how, log = sys.argv[1:]

def load(key):
    with open(log, "a") as file:
        file.write(f"{key} job\\n")
    return f"value of {key}"

node = Node(registry=registry, service="test")
group = node.group("g", load, codec="text", near_ttl="1s")
node.start()
group.get_many([f"loaded{number}" for number in range(500)])
assert group.set_many({f"set{number}": f"value of set{number}" for number in range(500)}) is True
print(group.incr("runs", initial=0))
if how == "close":
    node.close()
"""


def test_a_rolling_restart_of_five_members_under_load(local_processes: Processes) -> None:
    """Replace one after another while another process reads: at most 5 % of the keys are loaded again."""
    reader, *workers = local_processes.make(6, patience=10.0)
    successors = local_processes.make(5, start=False, patience=10.0)
    expected = {key: f"value of {key}" for key in KEYS}
    assert reader.do("get_many", KEYS)[0] == expected
    before = local_processes.loads().total()
    ended, read = threading.Event(), list[bool]()

    def read_all() -> None:
        while not ended.is_set():
            read.append(reader.do("get_many", KEYS)[0] == expected)

    reading = threading.Thread(target=read_all)
    reading.start()
    try:
        for leaver, successor in zip(workers, successors, strict=True):
            leaver.do("close")
            successor.start()
    finally:
        ended.set()
        reading.join()
    assert all(read)
    assert reader.do("get_many", KEYS)[0] == expected
    again = local_processes.loads().total() - before
    assert again <= len(KEYS) * 0.05


def test_a_warm_job_loses_nothing(local_processes: Processes, tmp_path: Path) -> None:
    (keeper,) = local_processes.make(1)
    kinds = [[f"{kind}{number}" for number in range(500)] for kind in ("loaded", "set")]
    for runs, how in enumerate(("close", "exit"), start=1):
        job = [sys.executable, "-c", JOB, f"local://{tmp_path}/reg", how, str(tmp_path / "loads")]
        ran = subprocess.run(job, cwd=ROOT, env=own_environment(), check=True, timeout=60, stdout=subprocess.PIPE)
        assert int(ran.stdout) == runs
        for keys in kinds:
            assert keeper.do("get_many", keys)[0] == {key: f"value of {key}" for key in keys}
    assert local_processes.loads() == dict.fromkeys(kinds[0], 1)
