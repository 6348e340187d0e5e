"""CPU time of fresh processes: a cold start of the function and of others.

Every launch is a process of its own; the variants take turns. The cost of a launch is the user and system time of its
process. Riskwatch's code is compiled at every launch, as in Lambda, because the function's directory is read-only
there.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import TypedDict

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "RISKWATCH_BUCKET": "bucket",
    "RISKWATCH_TABLE": "table",
    "RISKWATCH_TOPIC_ARN": "arn:aws:sns:eu-central-1:000000000000:topic",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
# The same clients as in riskwatch_lambda.handler.outputs.
CLIENTS = """
import boto3
from botocore.config import Config
config = Config(connect_timeout=3, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 4})
clients = [boto3.client(name, config=config) for name in ("s3", "dynamodb", "sns")]
"""
RUNTIME = "import awslambdaric.bootstrap\n"
OURS = "import sys; sys.path.insert(0, sys.argv[1])\n"
INIT = OURS + "import riskwatch_lambda.handler\n"
BATCH = """
from pathlib import Path
from riskwatch_lambda.model import document as model
from riskwatch_lambda.scoring import records, scorer
served = model.load(Path(sys.argv[1]) / "model")
for line in Path(sys.argv[2]).read_text().split():
    for record in records.decode(line, served.row_schema).records:
        scorer.verdicts(served, record)
"""
RIVAL = """
import sys; sys.path.insert(0, sys.argv[4])
from pathlib import Path
from bench.rivals import Handler
handler = Handler(Path(sys.argv[3]))
for line in Path(sys.argv[2]).read_text().split():
    handler.score(line)
"""


class ColdStarts(TypedDict):
    """Median CPU seconds by variant, and their ratios.

    `awslambdaric` says whether AWS's runtime client took part.
    """

    awslambdaric: bool
    cpu_s: dict[str, float]
    init_ratio: float
    rival_over_handler: float
    rival_over_scorer: float
    rival_without_boto3_over_scorer: float


def runtime_python() -> tuple[str, bool]:
    """Return an interpreter for the comparison with bare clients.

    The second value says whether it has AWS's own runtime client.
    """
    for python in (str(ROOT / ".venv-aws" / "bin" / "python"), sys.executable):
        imports = subprocess.run([python, "-c", RUNTIME + "import boto3"], capture_output=True, check=False)
        if imports.returncode == 0:
            return python, True
    return sys.executable, False


def measure(directory: Path, batch: Path, rival: Path, launches: int) -> ColdStarts:
    """Return median CPU seconds of the variants, and their ratios.

    `directory` has an unzipped artifact, `batch` is a file of base64 records, `rival` a dumped rival.
    """
    python, has_runtime = runtime_python()
    before = RUNTIME if has_runtime else ""
    variants = {
        "python": (sys.executable, "pass"),
        "bare": (python, before + CLIENTS),
        "init": (python, before + INIT),
        "handler": (sys.executable, INIT + BATCH),
        "scorer": (sys.executable, OURS + BATCH),
        "rival": (sys.executable, RIVAL),
        "rival_handler": (sys.executable, CLIENTS + RIVAL),
    }
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(launches + 1):
        for name, (interpreter, program) in variants.items():
            spent = _launch([interpreter, "-c", program, *map(str, (directory, batch, rival, ROOT))], directory)
            if number:  # the first round fills the caches of the disk
                seconds[name].append(spent)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "awslambdaric": has_runtime,
        "cpu_s": medians,
        "init_ratio": medians["init"] / medians["bare"],
        "rival_over_handler": medians["rival_handler"] / medians["handler"],
        "rival_over_scorer": medians["rival_handler"] / medians["scorer"],
        "rival_without_boto3_over_scorer": medians["rival"] / medians["scorer"],
    }


def _launch(command: list[str], directory: Path) -> float:
    for cache in directory.rglob("__pycache__"):
        shutil.rmtree(cache)
    init = {"AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand"}
    environment = {**os.environ, **ENVIRONMENT, **init, "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONPATH", None)
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"a launch ended with status {process.returncode}: {command[2]}")
    return usage.ru_utime + usage.ru_stime
