"""promote_model in an installation with several kinds: candidates of one part each, and what serves."""

from dataclasses import replace

import numpy as np

from riskwatch_ml.artifact import archive, parts
from riskwatch_ml.artifact.parts import Part
from riskwatch_ml.core import settings as configuration
from riskwatch_ml.registry import mlflow_registry
from riskwatch_ml.registry.registered import Registered, described_families
from riskwatch_ml.schema import catalogue
from riskwatch_ml.storage import keys
from tests.support import kinds, tiny
from tests.support.promotion import World

KINDS = ("ec2", "rds", "alb")


def part(kind, model_id):
    """Return a part with a model id; those of further kinds are alike."""
    document, arrays = (tiny.document(), tiny.ARRAYS) if kind == "ec2" else (kinds.DOCUMENT, kinds.ARRAYS)
    named = {**document, "model_id": model_id, "resource_kind": kind}
    return Part(named, {name: np.array(values, np.float32) for name, values in arrays.items()})


def packed(kind, model_id):
    """Return the artifact of a candidate."""
    return archive.pack(*parts.join({kind: part(kind, model_id)}))


class KindsWorld(World):
    """An installation with the kinds EC2, RDS and ALB."""

    def __init__(self, monkeypatch, mode="auto"):
        super().__init__(monkeypatch, mode)
        self.kinds = catalogue.load_all(KINDS)
        stand_in = self.installed._stand_in
        self.installed._register_assembled = self._register_assembled
        stand_in(monkeypatch, "register_assembled")

    def use(self, mode):
        """Set the promotion mode."""
        super().use(mode)
        self.config = replace(self.config, catalogue=KINDS)
        self.monkeypatch.setattr(configuration, "load", lambda: self.config)

    def candidate(self, kind, model_id, refreshes="", ask=""):
        """Register a candidate of a kind as its challenger, as `choose` does, and return it."""
        data, key = packed(kind, model_id), keys.candidate(model_id, "kmeans")
        installed = self.installed
        installed.store.put_bytes(key, data)
        made = Registered(
            *(str(len(installed.versions) + 1), archive.checksum(data), "run", model_id, "kmeans", key),
            *("refresh" if refreshes else "change", f"{model_id} is better", refreshes, ask, kind, model_id),
        )
        installed.versions.append(made)
        metrics = catalogue.of_kind(kind, self.kinds)
        installed.aliases[mlflow_registry._challenger_alias(metrics)] = made.version
        return made

    def _register_assembled(self, config, candidate, zip_bytes, s3_key, kinds):
        made = replace(
            candidate,
            version=str(len(self.installed.versions) + 1),
            digest=archive.checksum(zip_bytes),
            family=described_families(kinds),
            s3_key=s3_key,
            kinds=dict(kinds),
        )
        self.installed.versions.append(made)
        return made

    def served(self):
        """Return the model ids of the parts behind the alias by kind."""
        code = self.installed.functions.versions[self.installed.alias]["code"]
        return {kind: document["model_id"] for kind, document in parts.documents(code, "ec2").items()}
