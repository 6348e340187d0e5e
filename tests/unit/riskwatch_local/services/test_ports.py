"""Ports: a free one can be used, a taken one is refused with the name of its owner."""

import os
import socket

import pytest

from riskwatch_local.services import ports


def test_a_free_port_can_be_listened_on():
    port = ports.claim(None, "the demo")
    with socket.create_server((ports.LOOPBACK, port)):
        assert not ports.is_free(port)


def test_a_taken_port_names_purpose_port_and_process():
    # GIVEN a port on which this process listens
    with socket.create_server((ports.LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        # WHEN it is asked for THEN the error says for what, which one and who holds it
        with pytest.raises(ports.PortTakenError, match=rf"port {port} for Airflow is taken by .*{os.getpid()}"):
            ports.claim(port, "Airflow")


def test_a_port_that_cannot_exist_is_refused():
    with pytest.raises(ports.PortTakenError, match="does not exist"):
        ports.claim(70000, "Airflow")
