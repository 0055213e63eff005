"""A run on two hosts without Slurm, by the two commands of docs/cluster.md; the cable between them is cut and healed."""

import time
from collections.abc import Callable, Iterator

import pytest

from tests.cluster.checkout import FLAGS, PRETRAIN, Checkout, stop
from tests.cluster.network import ADDRESSES, INTERFACE, Hosts, NoNamespacesError
from tests.cluster.slurm import wait_until

TIMEOUT = 8  # seconds until a rank that hears nothing gives up


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    try:
        made = Hosts()
    except NoNamespacesError as why:
        pytest.skip(f"no network namespaces here: {why}")
    yield made
    made.remove()


def test_a_cut_cable_delays_a_run_and_no_more(hosts: Hosts, checkout: Checkout, uninterrupted: Callable[[], str]) -> None:
    checkout.edit_runtime(timeout_minutes=TIMEOUT / 60)
    checkout.call("dvc", "repro", "--quiet", "shard@digits")
    both = {"MASTER_ADDR": ADDRESSES[0], "GLOO_SOCKET_IFNAME": INTERFACE}
    first = checkout.start("first", *hosts.on(0), "dvc", "repro", "--single-item", PRETRAIN, **both)
    joins = ("timeout", "--kill-after=5", "300", "python", "-m", "pipeline.pretrain", *FLAGS)
    second = checkout.start("second", *hosts.on(1), *joins, NODE_RANK="1", **both)
    try:
        wait_until(lambda: checkout.step() > 0 or first.poll() is not None, "a first checkpoint", checkout.logs)
        assert first.poll() is None, checkout.logs()
        ranks = {process.pid for process in checkout.ranks().values()}
        hosts.cut()
        time.sleep(TIMEOUT + 2)
        step = checkout.step()
        hosts.heal()
        wait_until(lambda: first.poll() is not None or checkout.step() > step, "the run goes on", checkout.logs)
        assert ranks.isdisjoint({process.pid for process in checkout.ranks().values()}), "nobody noticed that the cable was cut"
        first.wait(180)
        assert first.returncode == 0, checkout.logs()
        assert second.wait(30) == 0, checkout.logs()
    finally:
        stop(first)
        stop(second)
    assert checkout.encoder() == uninterrupted()
    assert "up to date" in checkout.call("dvc", "status", PRETRAIN)
