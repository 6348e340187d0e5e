"""Schedules, assets and the order of tasks."""

import pytest

from riskwatch_airflow import assets, wiring


def outlets(dag):
    return {asset.name for item in dag.tasks for asset in item.outlets}


def test_schedules_by_default(dagbag):
    from airflow.sdk import AssetOrTimeSchedule, CronDataIntervalTimetable, CronTriggerTimetable
    from airflow.sdk.definitions.timetables.assets import AssetTriggeredTimetable

    # GIVEN
    timetables = {name: dag.timetable for name, dag in dagbag.dags.items()}

    # WHEN / THEN the exporter has data intervals, the others are moments or wait for assets
    assert isinstance(timetables["export_metrics"], CronDataIntervalTimetable)
    assert timetables["export_metrics"].expression == "0 * * * *"
    assert isinstance(timetables["stream_metrics"], CronTriggerTimetable)
    assert timetables["stream_metrics"].expression == "*/5 * * * *"
    assert isinstance(timetables["watch_model"], CronTriggerTimetable)
    assert isinstance(timetables["train_models"], AssetOrTimeSchedule)
    assert timetables["train_models"].timetable.expression == "30 3 * * *"
    assert isinstance(timetables["promote_model"], AssetTriggeredTimetable)


def test_manual_means_no_schedule(monkeypatch):
    # GIVEN
    monkeypatch.setenv(
        "RISKWATCH_SCHEDULES", '{export_metrics="manual", stream_metrics="manual", train_models="manual"}'
    )

    # WHEN / THEN a training still follows a retrain request
    assert wiring.intervals("export_metrics") is None
    assert wiring.moments("stream_metrics") is None
    assert wiring.moments_or("train_models", assets.RETRAIN_REQUEST) == [assets.RETRAIN_REQUEST]


def test_assets_link_the_dags(dagbag):
    # GIVEN
    dags = dagbag.dags

    # WHEN / THEN each asset has one producer, but that a vetoed refresh asks for a retrain too
    assert {name: outlets(dag) for name, dag in dags.items() if outlets(dag)} == {
        "export_metrics": {"validated_metrics"},
        "train_models": {"candidate_model", "retrain_request"},
        "promote_model": {"live_model"},
        "watch_model": {"retrain_request"},
    }


@pytest.mark.parametrize("asset", [assets.VALIDATED_METRICS, assets.CANDIDATE_MODEL, assets.LIVE_MODEL])
def test_asset_uris_are_in_their_normal_form(asset):
    # GIVEN / WHEN / THEN Airflow compares names and uris: a uri that it rewrites would be another asset
    assert asset.uri == f"riskwatch://{asset.name}/"


def test_the_families_are_those_that_the_run_decides_on(dagbag):
    # GIVEN
    tasks = dagbag.dags["train_models"].task_dict

    # WHEN / THEN a refresh maps over one family, a contest over five, and a vetoed refresh asks for a contest
    assert tasks["train"].map_index_template == "{{ families }}"
    assert tasks["train"].upstream_task_ids == {"prepare", "contestants"}
    assert tasks["announce"].upstream_task_ids == {"choose"}
    assert tasks["heartbeat"].upstream_task_ids == {"announce", "choose", "request_contest"}
    assert tasks["request_contest"].upstream_task_ids == {"choose"}
    assert tasks["request_contest"].trigger_rule == "none_failed"
    assert dagbag.dags["train_models"].params["contest"] is False


def test_the_export_runs_once_for_each_account_and_region(dagbag):
    # GIVEN no setting
    mapped = dagbag.dags["export_metrics"].task_dict["fetch"]

    # WHEN / THEN there is one account and region; the label of a run says what it read
    assert mapped.op_kwargs_expand_input.value["account_region"] == ["default"]
    assert mapped.map_index_template == "{{ told }}"
    tasks = dagbag.dags["export_metrics"].task_dict
    assert tasks["validate"].upstream_task_ids == {"fetch"}
    # AND one that fails does not stop the others, and is named at the end
    assert tasks["validate"].trigger_rule == "all_done_min_one_success"
    assert tasks["complete"].trigger_rule == "all_done_min_one_success"
    assert tasks["complete"].downstream_task_ids == {"heartbeat"}
    assert dagbag.dags["export_metrics"].params["coarsen"] is False


def test_the_tick_of_the_stream_comes_before_what_names_a_failed_account(dagbag):
    # GIVEN / WHEN / THEN the tick follows the publishing alone
    tasks = dagbag.dags["stream_metrics"].task_dict
    assert tasks["tick"].upstream_task_ids == {"publish"}
    assert tasks["complete"].upstream_task_ids == {"publish", "tick"}


def test_a_dag_that_must_not_stop_unnoticed_ends_with_a_heartbeat(dagbag):
    # GIVEN / WHEN / THEN it comes last, and only if the work was done and nothing failed
    for name in ("export_metrics", "train_models", "watch_model"):
        tasks = dagbag.dags[name].task_dict
        assert [task for task in tasks.values() if not task.downstream_task_ids] == [tasks["heartbeat"]]
        assert tasks["heartbeat"].trigger_rule == "none_failed_min_one_success"


def test_runs_and_tasks_have_time_limits(dagbag):
    # GIVEN
    dags = dagbag.dags

    # WHEN / THEN a run that hangs ends; every task but the one that waits for a person ends before its run
    for dag in dags.values():
        assert dag.dagrun_timeout
        for name, task in dag.task_dict.items():
            if not name.endswith("approval"):
                assert task.execution_timeout <= dag.dagrun_timeout
    # AND a compaction that takes long leaves time for the report of its run
    watch = dags["watch_model"]
    assert watch.task_dict["compact"].execution_timeout < watch.dagrun_timeout
    # AND a run that cannot go on, or that waits for a person, leaves a slot to others; what must not overlap does not
    assert min(dag.max_active_runs for dag in dags.values()) == 2
    assert dags["promote_model"].max_active_runs > 2
    alone = {
        (name, task)
        for name, dag in dags.items()
        for task in dag.task_dict
        if dag.task_dict[task].max_active_tis_per_dag == 1
    }
    assert alone == {
        ("promote_model", "release"),
        ("promote_model", "release_approved"),
        ("stream_metrics", "publish"),
        ("stream_metrics", "tick"),
        ("train_models", "prepare"),
        ("train_models", "choose"),
        ("watch_model", "compact"),
    }


def test_approval_stands_between_decision_and_release(dagbag):
    # GIVEN
    tasks = dagbag.dags["promote_model"].task_dict

    # WHEN / THEN an approval without an answer is a rejection, and a release that needs none follows the decision
    assert tasks["decide"].downstream_task_ids == {"approval", "release", "settle"}
    assert tasks["approval"].downstream_task_ids == {"release_approved"}
    assert tasks["approval"].defaults == ["Reject"]
    assert tasks["approval"].response_timeout.total_seconds() == 20 * 3600
    assert tasks["release"].upstream_task_ids == {"decide"}
