"""Damaged objects of the bucket: who meets them, what it says, and who heals them (table C of the campaign)."""

from __future__ import annotations

import gzip
import html
import io
import re
import time
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from bench.faults.outcome import Healing, Outcome
from bench.faults.records import Form, grid, pack, put_rows
from bench.faults.world import RUN_S, conf, warnings
from riskwatch_ml.artifact import archive
from riskwatch_ml.core import clock, settings
from riskwatch_ml.core.errors import RiskwatchError
from riskwatch_ml.storage import keys, known_instances

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from airflow.sdk import Context

    from bench.faults.world import World
    from riskwatch_ml.storage.bucket import Store

BOMB_BYTES = 300_000_000
LABELLED_S = 120.0


@dataclass(frozen=True)
class Met:
    """What a reader made of a damaged object: whether it went on, whether it named the object, and its words."""

    went_on: bool
    names: bool
    text: str


def page_text(world: World, until: datetime | None = None) -> str:
    """Return what a fresh view of a day says: its status, and title and advice if it cannot be shown.

    The view ends now or at `until`; it reads its last hour first.
    """
    # Another interval is another view: nothing of it is cached.
    end = "" if until is None else f"&until={clock.iso(until)}"
    answer = world.airflow.page(f"/riskwatch/?since={clock.now() - timedelta(days=1):%Y-%m-%dT%H:%M:%S.%fZ}{end}")
    found = re.search(r"<h1>(.*?)</h1>\s*<p>(.*?)</p>", answer.text, re.S) if answer.status_code >= 500 else None
    return html.unescape(f"{answer.status_code} {found[1]}: {found[2]}") if found else str(answer.status_code)


def _context() -> Context:
    now = clock.now()
    run = SimpleNamespace(run_after=now, start_date=now, run_id=f"bench__{clock.iso(now)}", run_type="manual")
    return cast("Context", {"params": {}, "dag_run": run, "triggering_asset_events": {}})


def _meet(name: str, reader: Callable[[], object]) -> Met:
    """Run a reader and return what it made of the object with a key that ends with `name`."""
    with warnings() as texts:
        try:
            answer = reader()
        except RiskwatchError as error:
            return Met(False, name in str(error), f"{type(error).__name__}: {error}")
        except Exception as error:  # the campaign reports what no reader should raise
            return Met(False, name in str(error), f"{type(error).__module__}.{type(error).__name__}: {error}")
    said = next((text for text in texts if name in text), "")
    return Met(True, bool(said), said or f"no word; it returned {answer}")


@contextmanager
def _damaged(store: Store, key: str, change: Callable[[bytes], bytes]) -> Iterator[bytes]:
    """Damage an object for a context and give its content; the old content comes back unless it was replaced."""
    old = store.get_bytes(key) or b""
    bad = change(old)
    store.put_bytes(key, bad)
    try:
        yield old
    finally:
        if store.get_bytes(key) == bad:
            store.put_bytes(key, old) if old else store.delete(key)


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _packed(content: bytes, _: bytes) -> bytes:
    return gzip.compress(content, 1)


def _compact() -> object:
    from riskwatch_airflow.tasks import watch

    return watch.compact()


def _measure() -> object:
    from riskwatch_airflow.tasks import watch

    return watch.measure(_context())


def watermark(world: World) -> list[Outcome]:
    """Cut the watermark of the compaction, then make it a list: the next compaction begins again."""
    outcomes = []
    for damage, change in (("cut", lambda _: b'{"since": "2026'), ("`[]`", lambda _: b"[]")):
        world.rows.update()
        expected = set(world.rows.labelled)
        with _damaged(world.store, keys.COMPACTION_MARK, change):
            began = time.monotonic()
            met = _meet(keys.COMPACTION_MARK, _compact)
            seconds = time.monotonic() - began
        table = world.rows.in_table()
        twice, missing = sum(count > 1 for count in table.values()), expected - set(table)
        good = met.went_on and met.names and not twice
        outcomes.append(
            Outcome(f"C watermark.json {damage}", "compact", Healing.ITSELF if good else Healing.NOT, seconds, met.text,
                    len(missing), len(expected))
        )  # fmt: skip
    return outcomes


def labelled_hour(world: World) -> list[Outcome]:
    """Cut an hour of the table in half, then put validated rows in its place; report and view both name it.

    Compaction meets the object only if new rows of its hour arrive.
    """
    store, outcomes = world.store, []
    listed = [(key, parsed) for key in store.keys(keys.hours(keys.LABELLED_ROWS)) if (parsed := keys.parse_hour(key))]
    key, parsed = listed[-3]
    other = store.get_bytes(store.keys(keys.hours(keys.VALIDATED))[-3]) or b""
    for damage, change in (("half", _half), ("of another schema", lambda _: other)):
        began = time.monotonic()
        with _damaged(store, key, change):
            met, page = _meet(key, _measure), page_text(world, parsed.hour + clock.HOUR)
            compacted = _meet(key, _compact)
        again = _meet(key, _measure)
        named = met.names and key in page and (compacted.went_on or compacted.names)
        healed = Healing.PERSON if named and again.went_on else Healing.NOT
        outcomes.append(
            Outcome(f"C labelled/rows {damage}", "measure, page, compact", healed, time.monotonic() - began,
                    f"{met.text} | page {page}", unit="rows", is_gone=True)
        )  # fmt: skip
    return outcomes


def validated_hour(world: World) -> list[Outcome]:
    """Truncate one validated hour and flip a byte of another; training names both, an export writes them again."""
    from riskwatch_airflow.tasks import train

    store = world.store
    cut = keys.hour_key(keys.VALIDATED, world.demo.source.cut - timedelta(hours=5))
    flipped = keys.hour_key(keys.VALIDATED, world.demo.source.cut - timedelta(hours=4))
    old = {key: store.get_bytes(key) or b"" for key in (cut, flipped)}
    began = time.monotonic()
    store.put_bytes(cut, _half(old[cut]))
    store.put_bytes(flipped, old[flipped][:200] + bytes([old[flipped][200] ^ 0xFF]) + old[flipped][201:])
    with warnings() as texts:
        met = _meet(cut, lambda: train.prepare(_context()))
    said = {key: next((text for text in texts if key in text), "") for key in old}
    hour = (world.demo.source.cut - timedelta(hours=5)).replace(minute=0, second=0, microsecond=0)
    run = world.airflow.trigger("export_metrics", conf(hour, hour + timedelta(hours=2)))
    world.airflow.wait("export_metrics", run, RUN_S)
    seconds = time.monotonic() - began
    outcomes = []
    for damage, key in (("truncated", cut), ("with a flipped byte", flipped)):
        is_same = store.get_bytes(key) == old[key]
        good = met.went_on and said[key] and is_same
        outcomes.append(
            Outcome(f"C validated hour {damage}", "train prepares; the export of the hour runs again",
                    Healing.ITSELF if good else Healing.NOT, seconds, said[key] or met.text, int(not is_same), 1,
                    "objects")
        )  # fmt: skip
    return outcomes


def ledger_entry(world: World) -> list[Outcome]:
    """Cut the newest entry of the ledger: the view and the watch name it until its version is restored."""
    key = world.store.keys(keys.LEDGER)[-1]
    began = time.monotonic()
    with _damaged(world.store, key, lambda _: b'{"action": "pro'):
        page, met = page_text(world), _meet(key, _measure)
    healed = Healing.PERSON if key in page and met.names and _meet(key, _measure).went_on else Healing.NOT
    message = f"page {page} | {met.text}"
    return [
        Outcome("C ledger entry cut", "page, measure", healed, time.monotonic() - began, message, unit="entries",
                is_gone=True)
    ]  # fmt: skip


def last_seen(world: World) -> Callable[[], list[Outcome]]:
    """Put an infinite time into stream/seen.json; return the wait for the run of the stream that replaces it.

    That is the first one for which a period has settled.
    """
    bad = b'{"end":"2026-11-30T02:50:00Z","period_s":300,"last":{"web-1":1e999}}'
    before = {run["dag_run_id"] for run in world.airflow.runs("stream_metrics")}
    world.store.put_bytes(keys.LAST_SEEN, bad)
    began = time.monotonic()

    def finish() -> list[Outcome]:
        world.wait("stream/seen.json is replaced", lambda: world.store.get_bytes(keys.LAST_SEEN) != bad, RUN_S, 1.0)
        seconds = time.monotonic() - began
        runs = [run["dag_run_id"] for run in world.airflow.runs("stream_metrics") if run["dag_run_id"] not in before]
        said = (world.logged("stream_metrics", run, "publish") for run in runs)
        message = next((text for text in said if keys.LAST_SEEN in text), "no word")
        moment = "the stream goes on"
        return [Outcome("C stream/seen.json 1e999", moment, Healing.ITSELF, seconds, message, unit="rows")]

    return finish


def inventory(world: World) -> list[Outcome]:
    """Cut the inventory by hand: all that reads it names it, and the view goes on."""
    began = time.monotonic()
    with _damaged(world.store, keys.INVENTORY, lambda _: b'{"instances": {"web-1": {"role": "w'):
        met = _meet(keys.INVENTORY, lambda: known_instances.load(settings.load().inventory, world.store))
        page = page_text(world)
    again = _meet(keys.INVENTORY, lambda: known_instances.load(settings.load().inventory, world.store))
    healed = Healing.PERSON if met.names and again.went_on and page == "200" else Healing.NOT
    message = f"{met.text} | page {page}"
    return [
        Outcome("C config/inventory.json cut", "export, publish and tick read it", healed, time.monotonic() - began,
                message, unit="rows", is_gone=True)
    ]  # fmt: skip


def watch_report(world: World) -> list[Outcome]:
    """Cut a report of the watch: the next report leaves it out."""
    key = world.store.keys(keys.REPORTS)[-1]
    began = time.monotonic()
    with _damaged(world.store, key, lambda _: b"{"):
        met = _meet(key, _measure)
    healed = Healing.ITSELF if met.went_on and met.names else Healing.NOT
    return [Outcome("C watch/*.json cut", "measure", healed, time.monotonic() - began, met.text, unit="reports")]


def arrived_objects(world: World) -> list[Outcome]:
    """Cut an object of labelled rows before it is compacted, and add a wrong line and a gzip bomb."""
    store, form = world.store, Form.of(world)
    rows = {("cut-1", moment) for moment in grid(12)}
    before = set(store.keys(keys.ARRIVED))
    put_rows(world, pack(form, "cut", "cut-1", grid(12)), "cut", rows)
    world.wait_labelled(rows, LABELLED_S)
    fresh = [key for key in store.keys(keys.ARRIVED) if key not in before]
    key = next(key for key in fresh if b"cut-1" in gzip.decompress(store.get_bytes(key) or b""))
    began = time.monotonic()
    with _damaged(store, key, _half):
        cut = _meet(key, _compact)
    _compact()
    missing = rows - set(world.rows.in_table())
    healed = Healing.PERSON if cut.went_on and cut.names else Healing.NOT
    outcomes = [
        Outcome("C labelled/arrived gz cut", "compact", healed, time.monotonic() - began, cut.text, len(missing),
                len(rows), is_gone=True)
    ]  # fmt: skip
    extra = f"{key.rpartition('/')[0]}/shardId-000000000000-1-2.json.gz"
    contents = {"wrong line": b'{"instance_id":"web-1"}\n', "gzip bomb": b"A" * BOMB_BYTES}
    for damage, content in contents.items():
        began = time.monotonic()
        with _damaged(store, extra, partial(_packed, content)):
            met = _meet(extra, _compact)
        healed = Healing.ITSELF if met.went_on and met.names else Healing.NOT
        outcomes.append(Outcome(f"C labelled/arrived {damage}", "compact", healed, time.monotonic() - began, met.text))
    return outcomes


def hostile_artifacts(world: World) -> list[Outcome]:
    """Read candidates that are no artifacts: nothing is unpacked to disk."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        zipped.writestr("../../evil.py", "")
        zipped.writestr("model/model.json", "{}")
    began, texts = time.monotonic(), []
    for data in (buffer.getvalue(), b"no zip", b""):
        met = _meet("", partial(archive.unpack, data))
        texts.append(met.text)
    good = all(text.startswith("ArtifactError") for text in texts)
    healed = Healing.REFUSED if good else Healing.NOT
    message = next((text for text in texts if not text.startswith("ArtifactError")), texts[0])
    return [
        Outcome("C candidates zip hostile", f"{len(texts)} zips read", healed, time.monotonic() - began, message,
                unit="models")
    ]  # fmt: skip
