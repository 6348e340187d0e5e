"""The cost of a model of thousands of instances.

A fitted model gets more baselines, and a new process loads it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from riskwatch_ml.artifact import archive
from riskwatch_ml.artifact.quantise import on_grid

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROGRAM = """
import json, resource, sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from riskwatch_lambda.model import document as model
from riskwatch_lambda.scoring import scorer
memory = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6
before, started = memory(), time.process_time()
served = model.load(Path(sys.argv[1]) / "model")
loaded, at = time.process_time() - started, memory()
started = time.process_time()
for baseline in range(served.baselines.count):
    served.baselines.profile(baseline, 0)
made = time.process_time() - started
print(json.dumps({"load CPU ms": loaded * 1e3, "load MB": at - before, "profiles of an hour CPU ms": made * 1e3,
                  "profiles of an hour MB": memory() - at}))
"""


def measure(zip_bytes: bytes, instances: int) -> dict[str, float]:
    """Return the zip size in MB, and CPU ms and MB of its use.

    A new process loads the model and makes one hour's profile of every instance.
    """
    content = multiply(zip_bytes, instances)
    with tempfile.TemporaryDirectory() as folder:
        archive.unzip(content, Path(folder))
        done = subprocess.run([sys.executable, "-I", "-c", PROGRAM, folder], capture_output=True, text=True, check=True)
    return {"zip MB": len(content) / 1e6, **json.loads(done.stdout)}


def multiply(zip_bytes: bytes, instances: int) -> bytes:
    """Return the artifact with `instances` instances.

    Each has the baseline of a fitted instance, with small random changes.
    """
    document, arrays = archive.unpack(zip_bytes)
    known = list(document["baselines"]["instances"].values())
    first = max(known) + 1
    sources = np.concatenate([np.resize(known, instances), np.arange(first, len(arrays["center"]))])
    rng = np.random.default_rng(0)

    def varied(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values * rng.uniform(0.9, 1.1, (len(values), 1, values.shape[2]))

    shift = instances - first
    names = {f"i-{number:017x}": number for number in range(instances)}
    roles = {role: index + shift for role, index in document["baselines"]["roles"].items()}
    document["baselines"] = {"instances": names, "roles": roles, "fleet": document["baselines"]["fleet"] + shift}
    document["groups"] = [document["groups"][index] for index in sources]
    boundaries = {member["boundary"] for member in document["members"]}
    arrays |= {name: arrays[name][sources] for name in boundaries}
    arrays["center"] = on_grid(varied(arrays["center"][sources].astype(np.float64)))
    arrays["scale"] = on_grid(varied(arrays["scale"][sources].astype(np.float64)), positive=True)
    del document["arrays"]
    return archive.pack(document, arrays)
