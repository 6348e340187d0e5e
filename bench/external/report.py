"""The comparison of Riskwatch and the detectors of NAB: lines, tables and the JSON document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bench.external.scoring import PROFILES, Tally, normalised_score, raw_score, tally

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bench.external.folder import Detector, Series
    from bench.external.scoring import Profile

OURS = "Riskwatch"


@dataclass(frozen=True)
class Line:
    """The figures of a detector for a profile; ``threshold`` is None for Riskwatch.

    ``score`` is None without a window; ``raw`` is the score before it is normalised.
    """

    profile: str
    detector: str
    score: float | None
    raw: float
    pages: int
    windows_met: int
    windows: int
    false_pages: int
    threshold: float | None


def compare(series: Sequence[Series], pages: Mapping[str, np.ndarray], detectors: Iterable[Detector]) -> list[Line]:
    """Return the lines of each profile, best score first.

    ``pages`` has the rows of Riskwatch's pages by series.
    """
    lines = []
    for profile in PROFILES:
        part = [_line(profile, OURS, series, pages, None)]
        for detector in detectors:
            threshold = detector.thresholds[profile.key]
            rows = {name: np.flatnonzero(scores >= threshold) for name, scores in detector.scores.items()}
            part.append(_line(profile, detector.name, series, rows, threshold))
        lines += sorted(part, key=lambda line: line.raw, reverse=True)
    return lines


def _line(
    profile: Profile, name: str, series: Sequence[Series], pages: Mapping[str, np.ndarray], threshold: float | None
) -> Line:
    total = sum((tally(pages[one.name], one.windows, one.probation) for one in series), Tally())
    score = normalised_score(total, profile) if total.windows else None
    return Line(
        profile=profile.key,
        detector=name,
        score=score,
        raw=raw_score(total, profile),
        pages=total.pages,
        windows_met=total.met,
        windows=total.windows,
        false_pages=total.false_pages,
        threshold=threshold,
    )


def tables(lines: Sequence[Line]) -> str:
    """Return one table for each profile."""
    texts = []
    for profile in PROFILES:
        table = pd.DataFrame(
            {
                "detector": line.detector,
                "score": "–" if line.score is None else f"{line.score:.1f}",
                "pages": line.pages,
                "windows met": f"{line.windows_met} of {line.windows}",
                "false pages": line.false_pages,
                "threshold": "–" if line.threshold is None else f"{line.threshold:.4g}",
            }
            for line in lines
            if line.profile == profile.key
        )
        costs = f"a false page costs {profile.false_page:g}, a missed window {profile.missed:g}"
        texts.append(f"{profile.title}: {costs}\n{table.to_string(index=False)}")
    return "\n\n".join(texts)
