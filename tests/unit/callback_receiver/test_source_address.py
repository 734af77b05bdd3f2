from ipaddress import ip_network

from callback_receiver.source_address import source_address

PROXIES = (ip_network("10.0.0.0/8"), ip_network("::1/128"))


def test_without_trusted_proxies_the_peer_is_the_source_whatever_it_claims():
    assert source_address("10.0.0.1", "196.201.214.200", ()) == "10.0.0.1"


def test_a_peer_that_is_no_trusted_proxy_is_not_believed():
    assert source_address("8.8.8.8", "196.201.214.200", PROXIES) == "8.8.8.8"


def test_the_nearest_address_that_is_no_trusted_proxy_is_the_source():
    assert source_address("10.0.0.1", "6.6.6.6, 196.201.214.200, 10.0.0.2", PROXIES) == "196.201.214.200"
    assert source_address("::1", "196.201.214.200", PROXIES) == "196.201.214.200"


def test_words_that_are_no_address_end_the_belief():
    assert source_address("10.0.0.1", "196.201.214.200, nonsense", PROXIES) == "10.0.0.1"
    assert source_address("10.0.0.1", "nonsense, 10.0.0.2", PROXIES) == "10.0.0.2"
    assert source_address("10.0.0.1", "", PROXIES) == "10.0.0.1"
    assert source_address("", "196.201.214.200", PROXIES) == ""
