"""The five families behind one contract: ``FAMILIES[name](x, params, seed) -> FamilyFit``."""

from __future__ import annotations

from riskwatch_ml.families import dbscan, ensemble, hierarchical, kmeans, kmedoids
from riskwatch_ml.families.base import Assigned, ClusterMap, FamilyError, FamilyFit, Fit, Stage

FAMILIES: dict[str, Fit] = {
    "kmeans": kmeans.fit,
    "dbscan": dbscan.fit,
    "ensemble": ensemble.fit,
    "hierarchical": hierarchical.fit,
    "kmedoids": kmedoids.fit,
}

__all__ = ["FAMILIES", "Assigned", "ClusterMap", "FamilyError", "FamilyFit", "Fit", "Stage"]
