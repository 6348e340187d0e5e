"""What serves, in memory: a function with its alias, a registry as MLflow keeps it, and a bucket with the ledger."""

import inspect
from functools import wraps

from riskwatch_ml.artifact import archive
from riskwatch_ml.registry import ledger, mlflow_registry, release
from riskwatch_ml.registry.registered import Registered
from riskwatch_ml.registry.serving import AliasTarget, Serving
from riskwatch_ml.storage import keys
from riskwatch_ml.storage.bucket import Store
from tests.support.bucket import Bucket
from tests.support.functions import ALIAS, FUNCTION, Lambda, artifact

REPLACED = (
    "challenger",
    "drop_challenger",
    "champion",
    "set_champion",
    "by_checksum",
    "version_url",
    "open_training",
    "register",
)


def agreeing(champion):
    """Return what `serving.read` gives if the alias serves MLflow's champion, or if nothing serves."""
    if champion is None:
        return Serving(AliasTarget("1", None), None, None, None, ())
    entry = {
        "digest": champion.digest,
        "function_version": "3",
        "action": "promote",
        "model_id": "m",
        "key": "ledger/x",
    }
    return Serving(AliasTarget("3", champion.digest), entry, entry, champion, ())


class Installation:
    """The function, the registry and the bucket of one installation; nothing serves at first."""

    def __init__(self, monkeypatch):
        self.functions, self.store = Lambda(), Store(Bucket(), "bucket")
        self.versions, self.aliases = [], {}
        self.fails = set()
        for name in REPLACED:
            self._stand_in(monkeypatch, name)

    def _stand_in(self, monkeypatch, name):
        original, mine = getattr(mlflow_registry, name), getattr(self, f"_{name}")

        @wraps(original)
        def replaced(*given, **more):
            inspect.signature(original).bind(*given, **more)
            if name in self.fails:
                self.fails.remove(name)
                raise ConnectionError("mlflow is down")
            return mine(*given, **more)

        monkeypatch.setattr(mlflow_registry, name, replaced)

    def register(self, model_id, refreshes="", ask=""):
        """Register a candidate as challenger, as `choose` does, and return it."""
        data = artifact(model_id)
        key = keys.candidate(model_id, "kmeans")
        self.store.put_bytes(key, data)
        version, checksum = str(len(self.versions) + 1), archive.checksum(data)
        made = Registered(version, checksum, "run", model_id, "kmeans", key, "change", "it won", refreshes, ask)
        self.versions.append(made)
        self.aliases["challenger"] = version
        return made

    def release(self, model_id):
        """Put a model into service as promote_model does, with all three facts; return it."""
        made = self.register(model_id)
        released = release.promote(self.functions, FUNCTION, ALIAS, artifact(model_id), approved_by="ada")
        self.store.put_bytes(keys.artifact(made.digest), artifact(model_id), if_absent=True)
        ledger.write(
            self.store,
            {
                "action": ledger.PROMOTE,
                "digest": made.digest,
                "version": made.version,
                "family": made.family,
                "function_version": released.function_version,
                "model_id": model_id,
                "by": "ada",
            },
        )
        self.aliases["champion"] = made.version
        return made

    @property
    def alias(self):
        """The function version behind the alias."""
        return self.functions.alias["FunctionVersion"]

    def actions(self):
        """Return the actions of the ledger, oldest first."""
        return [entry["action"] for entry in ledger.newest_first(self.store)][::-1]

    def _register(self, config, parent_run_id, training_id, ranking, winner, zip_bytes, metrics):
        version = str(len(self.versions) + 1)
        made = Registered(version, winner["digest"], parent_run_id, training_id, winner["family"], winner["s3_key"])
        self.versions.append(made)
        return version

    def _open_training(self, config, training_id, params):
        return f"run of {training_id}"

    def _by_alias(self, alias):
        version = self.aliases.get(alias)
        return next((made for made in self.versions if made.version == version), None)

    def _challenger(self, config, metrics):
        return self._by_alias("challenger" if metrics.is_first else f"challenger-{metrics.kind}")

    def _drop_challenger(self, config, metrics):
        del self.aliases["challenger" if metrics.is_first else f"challenger-{metrics.kind}"]

    def _champion(self, config):
        return self._by_alias("champion")

    def _set_champion(self, config, version):
        self.aliases["champion"] = version

    def _by_checksum(self, config, checksum):
        return next((made for made in reversed(self.versions) if made.digest == checksum), None)

    def _version_url(self, config, version):
        return f"http://mlflow/{version}"
