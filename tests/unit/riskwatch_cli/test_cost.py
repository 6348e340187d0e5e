"""`riskwatch cost`: the price of a fleet that is described, and of the installation."""

from datetime import timedelta

import pandas as pd
import pytest
from typer.testing import CliRunner

from riskwatch_cli.main import app
from riskwatch_ml.core import clock
from riskwatch_ml.storage import keys


def lines(result):
    assert result.exit_code == 0, result.output
    return [" ".join(line.split()) for line in result.output.splitlines()]


def test_a_fleet_of_several_kinds_has_a_line_for_each_and_a_total(cloud):
    # GIVEN / WHEN
    shown = lines(CliRunner().invoke(app, ["cost", "--kind", "ec2=100", "--kind", "rds=12"]))

    # THEN
    assert shown[1] == "kind instances metrics calls price calls price calls price price"
    assert shown[2] == "ec2 100 1,000 2 $0.0100 1,650 $7.20 17,280 $86.40 $93.60"
    assert shown[3] == "rds 12 144 1 $0.0014 750 $1.04 8,640 $12.44 $13.48"
    assert shown[4].startswith("all 112 1,144 3 $0.0114 ")
    assert shown[4].endswith(" $107.08")
    assert "$0.01 per 1,000 metrics" in shown[-1]


def test_without_options_it_is_the_installation(cloud):
    # GIVEN an inventory of two, and an export of one of them and of a third, and one of yesterday
    cloud.s3.objects[keys.INVENTORY] = b'{"instances": {"web-1": {}, "web-2": {}}}'
    hour = clock.floor(clock.now(), 3600) - timedelta(hours=1)
    for start, names in ((hour, ["web-1", "web-3"]), (hour - timedelta(days=1), ["web-9"])):
        rows = pd.DataFrame({"instance_id": names, "timestamp": [pd.Timestamp(start)] * len(names), "cpu": 1.0})
        cloud.store.write_hours(keys.RAW, rows, start, start + timedelta(hours=1), "default")

    # WHEN
    shown = lines(CliRunner().invoke(app, ["cost"]))

    # THEN the three are priced with the catalogue of the settings
    assert shown[2].startswith("ec2 3 30 1 $0.0003 ")
    assert shown[3].startswith("all 3 30 ")


@pytest.mark.parametrize("kind", ["ec2", "ec2=", "=3", "ec2=-1", "ec2=1.5", "ec2=many"])
def test_a_kind_without_a_number_is_refused(cloud, kind):
    result = CliRunner().invoke(app, ["cost", "--kind", kind])
    assert (result.exit_code, "such as" in result.output) == (2, True)


def test_an_unknown_kind_names_those_that_there_are(cloud):
    result = CliRunner().invoke(app, ["cost", "--kind", "ec3=1"])
    assert result.exit_code == 1
    assert "catalogue ec3 cannot be read" in result.output
    assert "name one of alb, asg, dynamodb" in result.output
