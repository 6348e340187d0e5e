"""The registered model: MLflow runs this file to score stream records with the very code and numbers that Lambda runs.

Logged "models from code": MLflow stores this source beside the artifact zip, no pickle. Loading the model imports the
scorer *from the zip*, not from an installed package, so that an old version keeps scoring with the code it was promoted
with.

Input: a DataFrame with the column ``record``, one stream record a row as JSON text,
``{"v":1,"service":…,"role":…,"instance_id":…,"ts":[epoch ms…],"rows":[[number|null…]…]}``, oldest row first; the last
row is the one that is scored. A record rather than a metric row, because a score needs the rows before it.

Output, aligned with the input: ``score`` (float, 1 = the instance's own boundary; NaN where a record has too few rows),
``level`` ("Idle", "Normal" or "High Load") and ``unusual`` (bool).

This file stands alone: it imports nothing of the project but what the zip carries.
"""

import importlib
import json
import sys
import zipfile
from types import ModuleType
from typing import Any

import mlflow
import pandas as pd

PACKAGE = "riskwatch_lambda"
MODULES = ("model.document", "scoring.records", "scoring.scorer")
# Where artifacts of the first releases have the same modules.
FLAT_MODULES = ("model", "records", "scorer")


class ServedModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Scores stream records with the packed artifact."""

    def load_context(self, context: Any) -> None:
        """Load code and numbers from the artifact; raises if its parts do not fit each other."""
        path = context.artifacts["artifact"]
        with zipfile.ZipFile(path) as archive:
            names = MODULES if f"{PACKAGE}/{MODULES[0].replace('.', '/')}.py" in archive.namelist() else FLAT_MODULES
            model, self._records, self._scorer = _modules(path, *names)
            self._model = model.from_files({name: archive.read(f"model/{name}") for name in model.FILES})

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Score a DataFrame with the column ``record``; ValueError names the first record that cannot be scored."""
        verdicts = []
        for place, text in enumerate(model_input["record"]):
            try:
                record = self._records.parse(json.loads(text), self._model.layout)
            except ValueError as error:
                raise ValueError(f"record {place} cannot be scored: {error}") from error
            verdicts.append(self._scorer.score(self._model, record))
        return pd.DataFrame(
            {
                "score": pd.Series([verdict.score for verdict in verdicts], dtype="float64"),
                "level": pd.Series([verdict.level for verdict in verdicts], dtype="object"),
                "unusual": pd.Series([verdict.unusual for verdict in verdicts], dtype="bool"),
            }
        ).set_index(model_input.index)


def _modules(path: str, *names: str) -> list[ModuleType]:
    """Import submodules of the package in a zip, leaving an installed package of that name as it was."""
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == PACKAGE}
    sys.path.insert(0, path)
    try:
        return [importlib.import_module(f"{PACKAGE}.{name}") for name in names]
    finally:
        sys.path.remove(path)
        for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
            del sys.modules[name]
        sys.modules.update(hidden)


mlflow.models.set_model(ServedModel())
