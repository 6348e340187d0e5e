"""The registered model: it scores stream records as Lambda does.

MLflow runs this file with the code and numbers that Lambda runs. It is logged as "models from code": MLflow stores this
source beside the artifact zip, without a pickle. A loaded model imports the scorer *from the zip*, not from an
installed package, so that an old version keeps the code with which it was promoted.

Input: a DataFrame with the column ``record``. Each row is a stream record as JSON text,
``{"v":1,"service":…,"role":…,"instance_id":…,"ts":[epoch ms…],"rows":[[number|null…]…]}``, oldest row first; its last
row is scored. The input is a record, not a metric row, because a score needs the rows before it. A record with a
``"kind"`` is scored by the part of the model for it.

Output, aligned with the input: ``score`` (float, 1 = the instance's own boundary, NaN if a record has too few rows),
``level`` ("Idle", "Normal" or "High Load") and ``unusual`` (bool).

This file imports nothing of the project except the content of the zip.
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
# The names of the same modules in artifacts of the first releases.
FLAT_MODULES = ("model", "records", "scorer")


class ServedModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """A scorer of stream records that runs the packed artifact."""

    def load_context(self, context: Any) -> None:
        """Load code and numbers from the artifact; raise if they do not match."""
        path = context.artifacts["artifact"]
        with zipfile.ZipFile(path) as archive:
            names = MODULES if f"{PACKAGE}/{MODULES[0].replace('.', '/')}.py" in archive.namelist() else FLAT_MODULES
            model, self._records, self._scorer = _modules(path, *names)
            self._model = model.from_files({name: archive.read(f"model/{name}") for name in model.FILES})

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Score a DataFrame with the column ``record``.

        Raises ValueError, which names the first record that cannot be scored.
        """
        verdicts = []
        # Artifacts of earlier releases have one part, and those of the first ones another name for its schema.
        further = getattr(self._model, "further_schemas", None)
        first = self._model.row_schema if hasattr(self._model, "row_schema") else self._model.layout
        schemas = (first, further) if further else (first,)
        for position, text in enumerate(model_input["record"]):
            try:
                record = self._records.parse(json.loads(text), *schemas)
            except ValueError as error:
                raise ValueError(f"record {position} cannot be scored: {error}") from error
            part = self._model.parts[record.resource_kind] if further else self._model
            verdicts.append(self._scorer.score(part, record))
        return pd.DataFrame(
            {
                "score": pd.Series([verdict.score for verdict in verdicts], dtype="float64"),
                "level": pd.Series([verdict.level for verdict in verdicts], dtype="object"),
                "unusual": pd.Series([verdict.unusual for verdict in verdicts], dtype="bool"),
            }
        ).set_index(model_input.index)


def _modules(path: str, *names: str) -> list[ModuleType]:
    """Import submodules of the package in a zip.

    An installed package of that name stays as it is.
    """
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
