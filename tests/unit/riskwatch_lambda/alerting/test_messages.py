"""How messages read: forms for each kind of subscriber, within what SNS takes, whatever the names are."""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskwatch_lambda.alerting import messages
from riskwatch_lambda.alerting import text as wording
from riskwatch_lambda.alerting.messages import (
    DAILY_SUMMARY,
    ESCALATED,
    OPENED,
    RESOLVED,
    Message,
    MessageContent,
    compose,
)
from riskwatch_lambda.episode_rule import EpisodeState
from riskwatch_lambda.episodes.episode import NO_DATA, Episode
from riskwatch_lambda.scoring.reasons import TOGETHER
from tests.support.tiny import PERIOD_MS
from tests.support.world import ELEVEN, PAGING_CPU, World, row

REASON = {"feature": "cpu", "value": 16.39, "low": 7.0, "high": 13.0, "share": 1.0, "direction": "up"}
HOSTILE = [
    "<!channel> <script>alert(1)</script>",
    "[click](http://evil.example/?a=b&c=d)",
    "https://evil.example/login",
    'quote " back \\ slash',
    "`code` *bold* ~gone~ |hidden| @here #general",
    "${jndi:ldap://x} {{7*7}} %0a%0d",
    "../../etc/passwd?instance=other&abnormal=1#top",
    "名前-ü-Ω",
    "www.evil.example",
    "evil.example/login",
    "tel:112",
    "mailto:boss",
]


# What mail programs and chats make a link of: a known scheme, "www.", a name that ends in letters after a dot.
LINKED = re.compile(
    r"(?i)(?<![^\W_])(?:tel|mailto|sms|https?|ftp):\S|www\.|\w\.(?!(compute\.)?(internal|local)\b(?![/.-]))[^\W\d_]{2,}\b(?!-)"
)


def episode(
    instance: str = "web-1", service: str = "shop", *, kind: str = "behaviour", closed: bool = False
) -> Episode:
    """Give an episode of 11:00, closed at 11:10 if asked."""
    closed_ms = ELEVEN + 2 * PERIOD_MS if closed else None
    return Episode(
        instance_id=instance,
        service=service,
        kind=kind,
        state=EpisodeState(not closed, ELEVEN, ELEVEN + 2 * PERIOD_MS, closed_ms, 2 if closed else 0, 2.0),
        level="Normal",
        reasons=(REASON,),
        model_id="tiny-1",
        model_version="7",
    )


# An hour before the episode and an hour after its newest row.
AROUND = "since=2026-11-22T10%3A00%3A00.000Z&until=2026-11-22T12%3A10%3A00.000Z"


def opening(*episodes: Episode) -> Message:
    """Give the page about some episodes."""
    return compose(OPENED, MessageContent(opened=episodes), "https://airflow.example/base/")


def test_the_text_says_which_instance_since_when_why_by_which_model_and_where_to_look():
    # GIVEN / WHEN / THEN
    assert opening(episode()).text.splitlines() == [
        "shop: unusual behaviour, please check (model tiny-1, version 7).",
        "- web-1 since 2026-11-22 11:00 UTC, score 2.00, load Normal",
        "    cpu 16.39, above the usual 7 to 13",
        f"https://airflow.example/base/riskwatch/?instance=web-1&exact=1&{AROUND}",
    ]


@pytest.mark.parametrize(
    ("reasons", "lines"),
    [
        ([REASON], ["cpu 16.39, above the usual 7 to 13"]),
        ([{**REASON, "value": 2.0, "direction": "down"}], ["cpu 2, below the usual 7 to 13"]),
        ([{**REASON, "aspect": "change"}], ["cpu changed by 16.39 since the row before, above the usual 7 to 13"]),
        ([{**REASON, "aspect": "mean", "rows": 12}], ["mean of cpu over 12 rows 16.39, above the usual 7 to 13"]),
        (
            [{**REASON, "aspect": "deviation", "rows": 36}],
            ["deviation of cpu over 36 rows 16.39, above the usual 7 to 13"],
        ),
        # Reasons of earlier releases, in open episodes of the table.
        ([{**REASON, "value": None}], [TOGETHER]),
        ([{**REASON, "value": 10.0}, {**REASON, "feature": "net"}], ["net 16.39, above the usual 7 to 13"]),
        ([], [TOGETHER]),
    ],
)
def test_a_reason_says_what_is_out_of_which_range(reasons, lines):
    # GIVEN / WHEN
    told = wording.opened_lines(Episode("a", "s", state=EpisodeState(True, ELEVEN), reasons=tuple(reasons)))

    # THEN
    assert told[1:] == [f"    {line}" for line in lines]


def test_every_kind_of_subscriber_has_its_form():
    # GIVEN a page WHEN it is published
    message = opening(episode(), episode("web-2"))
    forms = json.loads(message.forms)

    # THEN queues and functions get JSON, mail the text, SMS one line
    assert json.loads(forms["default"])["opened"][0]["instance_id"] == "web-1"
    assert forms["email"] == message.text
    assert forms["sms"] == "Riskwatch: shop: 2 instances behave unusually"
    # AND chat gets the schema of custom notifications, whose values are texts and lists of texts
    chat = json.loads(forms["https"])
    assert (chat["version"], chat["source"], chat["content"]["textType"]) == ("1.0", "custom", "client-markdown")
    assert chat["content"]["title"] == message.subject
    assert "cpu 16.39, above the usual 7 to 13" in chat["content"]["description"]
    assert chat["content"]["nextSteps"] == [f"https://airflow.example/base/riskwatch/?abnormal=1&{AROUND}"]
    assert chat["metadata"]["threadId"] == "riskwatch-shop"
    assert chat["metadata"]["relatedResources"] == ["web-1", "web-2"]
    assert all(isinstance(value, str) for value in chat["metadata"]["additionalContext"].values())
    assert chat.keys() <= {"version", "source", "id", "content", "metadata"}


def test_without_a_link_there_is_none():
    # GIVEN / WHEN / THEN
    message = compose(OPENED, MessageContent(opened=(episode(),)), None)
    assert json.loads(message.body)["link"] is None
    assert "nextSteps" not in json.loads(message.chat)["content"]
    assert "http" not in message.text


@pytest.mark.parametrize("event", [OPENED, ESCALATED, RESOLVED, DAILY_SUMMARY])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_do_no_harm_in_any_form(event, name):
    # GIVEN an instance and a service of such a name
    hostile = episode(name, name, closed=event == RESOLVED)
    notified_lines = MessageContent(
        opened=(hostile,) if event in (OPENED, DAILY_SUMMARY) else (),
        escalated=(hostile,) if event == ESCALATED else (),
        resolved=(hostile,) if event == RESOLVED else (),
    )

    # WHEN a message reports it
    message = compose(event, notified_lines, "https://airflow.example")

    # THEN text, subject and chat hold nothing that is markup, a mention or a link, beside our own
    chat = json.loads(message.chat)
    shown = [message.text, message.subject, chat["content"]["title"], chat["content"]["description"]]
    shown += [chat["metadata"]["threadId"], *chat["metadata"]["relatedResources"]]
    for text in shown:
        rest = text.replace("https://airflow.example/riskwatch/?instance=", "")
        rest = rest.replace(message.text.splitlines()[-1].split("=", 1)[-1], "")
        assert not set(rest) & set('<>[]`*~|@#\\"&${}'), rest
        assert "://" not in rest
        assert not LINKED.search(rest), rest
    # AND the link asks for exactly this instance
    link = urlsplit(json.loads(message.body)["link"])
    assert (link.netloc, link.path, link.fragment) == ("airflow.example", "/riskwatch/", "")
    query = parse_qs(link.query)
    assert (query["instance"], query["exact"]) == ([name], ["1"])
    # AND programs get the name as it is
    body = json.loads(message.body)
    assert [each["instance_id"] for part in ("opened", "escalated", "resolved") for each in body[part]] == [name]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_go_through_the_whole_function(name):
    # GIVEN a model that knows the instance
    from tests.support import tiny

    world = World(tiny.model(baselines={"instances": {name: 2}, "roles": {}, "fleet": 0}))

    # WHEN it pages THEN one message goes out that SNS takes, and its end is reported
    world.send(row(PAGING_CPU, instance=name, service=name))
    world.send(row(10.0, 1, name, name), row(10.0, 2, name, name))
    world.tick(ELEVEN + 3 * PERIOD_MS)
    assert [message["event"] for message in world.sns.messages] == ["opened", "resolved"]
    assert world.sns.messages[0]["attributes"]["service"] == name


@pytest.mark.parametrize("event", [OPENED, RESOLVED])
def test_a_thousand_long_names_fit_into_what_sns_takes(event):
    # GIVEN a thousand episodes whose names are as long as names may be, with letters that JSON escapes
    many = tuple(episode(f"{number:03}" + "ü" * 126, "é" * 127, closed=event == RESOLVED) for number in range(1000))
    reasons = tuple({**REASON, "feature": "é" * 200} for _ in range(3))
    many = tuple(
        Episode(each.instance_id, each.service, state=each.state, level="Normal", reasons=reasons) for each in many
    )
    notified_lines = MessageContent(opened=many) if event == OPENED else MessageContent(resolved=many)

    # WHEN / THEN
    message = compose(event, notified_lines, "https://airflow.example")
    assert len(message.forms.encode()) <= messages.SIZE_LIMIT
    assert len(message.subject) < 100
    body = json.loads(message.body)
    assert len(body["opened"]) + len(body["resolved"]) + body["more"] == 1000
    assert len(body["opened"]) + len(body["resolved"]) >= 10


def test_a_subject_is_short_plain_ascii():
    # GIVEN / WHEN / THEN
    subject = opening(episode(service="ü" * 120)).subject
    assert subject.startswith("Riskwatch: ????")
    assert (len(subject), subject.isascii(), subject.isprintable()) == (99, True, True)


def test_the_worst_comes_first():
    # GIVEN scores of 2 and 5 WHEN / THEN
    worst = episode("web-9")
    worst = Episode("web-9", "shop", state=worst.state._replace(peak=5.0), level="Normal")
    assert [each["instance_id"] for each in json.loads(opening(episode(), worst).body)["opened"]] == ["web-9", "web-1"]


def test_an_end_says_until_when_and_how_bad_it_was():
    # GIVEN / WHEN
    message = compose(
        RESOLVED, MessageContent(resolved=(episode(closed=True), episode("db-1", kind=NO_DATA, closed=True))), None
    )

    # THEN
    assert message.text.splitlines()[1:] == [
        "- db-1, no data: 2026-11-22 11:00 UTC to 2026-11-22 11:10 UTC",
        "- web-1, back to normal: 2026-11-22 11:00 UTC to 2026-11-22 11:10 UTC, peak 2.00",
    ]
    assert message.subject == "Riskwatch: shop: 2 instances are back to normal"


def test_a_digest_counts_and_has_all_three_parts():
    # GIVEN / WHEN
    notified_lines = MessageContent(
        opened=(episode(),), escalated=(episode("web-2"),), resolved=(episode("web-3", "other", closed=True),)
    )
    message = compose(DAILY_SUMMARY, notified_lines, None)

    # THEN
    assert message.subject == "Riskwatch: daily summary: 1 opened, 1 got worse, 1 resolved"
    assert message.service == "fleet"
    lines = message.text.splitlines()
    assert lines[0] == "fleet: alerts that were not paged (model tiny-1, version 7)."
    assert [line for line in lines if not line.startswith(("-", " "))][1:] == ["Got worse:", "Resolved:"]


def test_the_page_of_the_link_is_the_one_that_the_plugin_serves():
    # GIVEN / WHEN / THEN
    from riskwatch_dashboard import PREFIX

    assert f"{PREFIX}/" == f"/{wording.PAGE}"


@pytest.mark.parametrize(
    "name",
    [
        "i-0abc",
        "web-1.eu-west-1",
        "ip-10-0-0-1.ec2.internal",
        "ip-10-0-0-1.eu-west-1.compute.internal",
        "printer.local",
        "10.0.0.1:9100",
        "node_exporter-1.2.3",
        "123456789012.eu-west-1:i-0abc",
        "arn:aws:ec2:eu-west-1:123456789012:instance/i-0abc",
        "arn:aws:rds:eu-west-1:123456789012:db:orders",
        "hotel:112",
        "app/web/0123456789abcdef",
        "名前-ü-Ω",
    ],
)
def test_ordinary_names_stay_as_they_are(name):
    # GIVEN / WHEN / THEN
    assert wording.plain(name) == name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("www.evil.example", "www(.)evil(.)example"),
        ("WWW.evil1", "WWW(.)evil1"),
        ("evil.example/login", "evil(.)example/login"),
        ("evil.com.", "evil(.)com."),
        ("a.com.eu-west-1", "a(.)com.eu-west-1"),
        ("web-1.prod.example.com", "web-1(.)prod(.)example(.)com"),
        ("evil.xn--p1ai", "evil(.)xn--p1ai"),
        ("evil.рф", "evil(.)рф"),
        ("evil.internal/login", "evil(.)internal/login"),
        ("evil.local.com", "evil(.)local(.)com"),
        ("1.2.3.4/login", "1.2.3(.)4/login"),
        ("tel:112", "tel(:)112"),
        ("TEL:+49", "TEL(:)+49"),
        ("arn:tel:112", "arn:tel(:)112"),
        ("mailto:boss", "mailto(:)boss"),
        ("javascript:alert", "javascript(:)alert"),
        ("http:/evil.example", "http(:)/evil(.)example"),
        ("https://evil.example", "https(:)/?evil(.)example"),
    ],
)
def test_a_name_that_could_be_a_link_is_broken_and_readable(name, shown):
    # GIVEN / WHEN / THEN
    assert wording.plain(name) == shown


@given(st.one_of(st.text(max_size=80), st.text("aW.:/-_ 1w@comtel", max_size=80), st.sampled_from(HOSTILE)))
def test_no_name_becomes_a_link(name):
    # GIVEN / WHEN
    shown = wording.plain(name)

    # THEN nothing of it is a link or markup
    assert not LINKED.search(shown), shown
    assert "//" not in shown
    assert not set(shown) & set('<>[]`*~|@#\\"&${}\n\r\t')
