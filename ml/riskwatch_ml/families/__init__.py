"""The five families by name: ``FAMILIES[name](x, params, seed) -> FamilyFit``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from riskwatch_ml.families import dbscan, ensemble, hierarchical, kmeans, kmedoids

if TYPE_CHECKING:
    from riskwatch_ml.families.base import Family

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (kmeans.FAMILY, dbscan.FAMILY, ensemble.FAMILY, hierarchical.FAMILY, kmedoids.FAMILY)
}
