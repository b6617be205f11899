import socket
from pathlib import Path

from sandbox.addresses import free_pod_network, free_port


def test_nobody_listens_on_a_free_port():
    port = free_port()
    with socket.socket() as mine:
        mine.bind(("127.0.0.1", port))


def test_connections_on_their_way_out_do_not_take_free_ports():
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert max(free_port() for _ in range(50)) < lowest


def test_two_pod_networks_that_are_held_differ_and_a_released_one_may_come_again():
    held = [free_pod_network() for _ in range(5)]
    try:
        assert len({network.cidr for network in held}) == 5
        assert all(20 <= network.second_byte < 220 for network in held), "127.0 is everybody's"
    finally:
        for network in held:
            network.release()
    assert all(network.lock.closed for network in held)


def test_a_pod_network_holds_addresses_that_can_be_listened_on():
    network = free_pod_network()
    try:
        with socket.socket() as pod:
            pod.bind((network.cidr.replace("0.0/16", "3.7"), 0))
    finally:
        network.release()
