"""The environment of Airflow's components: a long wait for SQLite's lock."""

from riskwatch_local.services import airflow_components

CONNECTION = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"


def test_all_components_wait_long_for_the_lock_of_sqlite(tmp_path):
    url = airflow_components.environment(tmp_path, 8080)[CONNECTION]
    assert url == f"sqlite:///{tmp_path}/airflow.db?timeout={airflow_components.BUSY_S}"
    assert airflow_components.BUSY_S >= 30


def test_another_database_is_left_as_it_is(tmp_path):
    url = "postgresql+psycopg2://riskwatch@127.0.0.1/airflow"
    assert airflow_components.environment(tmp_path, 8080, url)[CONNECTION] == url
