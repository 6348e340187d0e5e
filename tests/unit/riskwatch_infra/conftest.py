"""The template, read as CloudFormation would."""

import pytest
import yaml

from riskwatch_infra import deploy


class Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms: !Ref x becomes {"Ref": x}, !Sub x {"Fn::Sub": x} and so on."""


def _short_form(loader, suffix, node):
    key = "Ref" if suffix == "Ref" else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        return {key: loader.construct_scalar(node)}
    return {
        key: loader.construct_sequence(node, deep=True)
        if isinstance(node, yaml.SequenceNode)
        else loader.construct_mapping(node, deep=True)
    }


Loader.add_multi_constructor("!", _short_form)


@pytest.fixture(scope="module")
def load():
    """Return what reads a template of a path."""
    return lambda path: yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)


@pytest.fixture(scope="module")
def template(load):
    return load(deploy.TEMPLATE)


@pytest.fixture(scope="module")
def resources(template):
    return template["Resources"]
