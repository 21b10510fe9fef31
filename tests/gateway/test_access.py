"""Keys, tokens, proxies and the token bucket."""

import pytest
from starlette.requests import HTTPConnection

from gateway.access import (
    READ_SCOPE,
    Access,
    AccessDenied,
    RateLimit,
    TokenBuckets,
    TokenGrant,
    api_caller,
    client_address,
    collector_caller,
    digest_of_secret,
    read_access,
)


def request(peer="203.0.113.9", **headers):
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return HTTPConnection({"type": "http", "client": (peer, 1), "headers": named, "query_string": b""})


def test_secrets_are_kept_as_digests_only():
    access = read_access(["acme:a-write-key"], ["acme:read:a-token-of-ours"])
    assert access.write_keys == {digest_of_secret("a-write-key"): "acme"}
    assert access.tokens == {digest_of_secret("a-token-of-ours"): TokenGrant("acme", frozenset({"read"}))}
    assert "a-write-key" not in repr(access)


def test_a_secret_may_be_given_as_its_digest():
    assert read_access([f"acme:sha256:{digest_of_secret('a-write-key')}"]) == read_access(
        ["acme:a-write-key"]
    )
    assert read_access([f"acme:SHA256:{digest_of_secret('a-write-key').upper()}"]) == read_access(
        ["acme:a-write-key"]
    )


@pytest.mark.parametrize(
    "slip", ["sha256:", "sha256:ABC", "sha256:" + "0" * 63, "sha256:" + "g" * 64, "sha256: " + "0" * 64]
)
def test_a_digest_with_a_slip_is_refused_and_never_a_secret_in_clear(slip):
    with pytest.raises(ValueError, match="64 hex digits"):
        read_access([f"acme:{slip}"])
    with pytest.raises(ValueError, match="64 hex digits"):
        read_access([], [f"acme:read:{slip}"])


@pytest.mark.parametrize(
    ("keys", "tokens", "said"),
    [
        (["justakey"], [], "write key 1: it must begin with its tenant"),
        (["Acme:long-enough"], [], "write key 1: it must begin with its tenant"),
        (["acme:short"], [], "write key 1: give at least 8 characters"),
        ([], ["acme:owner:long-enough"], "API token 1: scopes are"),
        ([], ["acme:read:"], "API token 1: give at least 8 characters"),
    ],
)
def test_a_wrong_setting_says_which_and_why_and_keeps_the_secret(keys, tokens, said):
    with pytest.raises(ValueError, match=said) as wrong:
        read_access(keys, tokens)
    assert "long-enough" not in str(wrong.value)


@pytest.mark.parametrize(
    ("keys", "tokens", "said"),
    [
        (["acme:one-key-1", "globex:one-key-1"], [], "write key 2: it is a key of the tenant acme already"),
        (
            ["acme:one-key-1", f"globex:sha256:{digest_of_secret('one-key-1')}"],
            [],
            "write key 2: it is a key of the tenant acme already",
        ),
        ([], ["acme:read:one-token", "globex:read:one-token"], "API token 2: it is acme:read already"),
        ([], ["acme:read:one-token", "acme:read+write:one-token"], "API token 2: it is acme:read already"),
        (
            ["acme:one-secret"],
            ["acme:read:one-secret"],
            "API token 1: it is a write key, too, and these are public",
        ),
    ],
)
def test_a_secret_has_one_owner_and_one_use(keys, tokens, said):
    with pytest.raises(ValueError, match=said.replace("+", r"\+")) as wrong:
        read_access(keys, tokens)
    assert "one-" not in str(wrong.value).replace("one of its own", "")


def test_a_secret_that_is_listed_twice_alike_is_no_fault():
    access = read_access(["acme:one-key-1"] * 2, ["acme:read+write:one-token", "acme:write+read:one-token"])
    assert (len(access.write_keys), len(access.tokens)) == (1, 1)


def test_a_proxys_word_counts_only_if_it_is_trusted():
    trusting = read_access(["acme:a-write-key"], trusted_proxies=["10.0.0.0/8"])
    told = {"x_forwarded_for": "1.2.3.4, 198.51.100.7, 10.0.0.9"}
    assert client_address(request("10.0.0.1", **told), trusting) == "198.51.100.7"
    assert client_address(request("::ffff:10.0.0.1", **told), trusting) == "198.51.100.7"
    assert client_address(request("203.0.113.9", **told), trusting) == "203.0.113.9"
    assert client_address(request("10.0.0.1", **told), read_access(["acme:a-write-key"])) == "10.0.0.1"


@pytest.mark.parametrize("told", ["", "nonsense", ", ,", "10.0.0.2"])
def test_a_trusted_proxy_that_names_nobody_is_the_client(told):
    trusting = read_access(["acme:a-write-key"], trusted_proxies=["10.0.0.0/8"])
    assert client_address(request("10.0.0.1", x_forwarded_for=told), trusting) == "10.0.0.1"


def test_the_api_takes_no_write_key():
    access = read_access(["acme:a-write-key"], ["acme:read:a-token-of-ours"])
    with pytest.raises(AccessDenied) as denied:
        api_caller(request(authorization="Bearer a-write-key"), access, "read")
    assert denied.value.status == 401


def test_a_read_token_may_not_write():
    access = read_access([], ["acme:read:a-token-of-ours"])
    headers = {"authorization": "bearer a-token-of-ours"}
    assert api_caller(request(**headers), access, "read").tenant == "acme"
    with pytest.raises(AccessDenied) as denied:
        api_caller(request(**headers), access, "write")
    assert denied.value.status == 403


def test_keys_alone_do_not_open_the_api():
    with pytest.raises(AccessDenied) as denied:
        api_caller(request("127.0.0.1"), read_access(["acme:a-write-key"]), "read")
    assert denied.value.status == 401


@pytest.mark.parametrize("host", ["[", "]", "[::1", "[v1.x]", "\u2100", "localhost:x]"])
def test_what_is_no_host_is_not_this_machine(host):
    for headers in ({"host": host}, {"origin": f"http://{host}"}):
        with pytest.raises(AccessDenied) as denied:
            api_caller(request("127.0.0.1", **headers), Access(), READ_SCOPE)
        assert denied.value.status == 403


@pytest.mark.parametrize("coded", ["é", "=", "/////w==", "\xff\xfe", ""])
def test_a_write_key_that_is_no_base64_is_none(coded):
    access = read_access(["acme:a-public-key"])
    with pytest.raises(AccessDenied) as denied:
        collector_caller(request(authorization=f"Basic {coded}"), access)
    assert denied.value.status == 401


def test_a_bucket_refills_with_time():
    buckets = TokenBuckets(RateLimit(per_second=10, burst=20))
    buckets.take("k", 20, at=100.0)
    with pytest.raises(AccessDenied) as denied:
        buckets.take("k", 5, at=100.1)
    assert denied.value.retry_after_s == pytest.approx(0.4)
    buckets.take("k", 5, at=100.5)


def test_an_empty_bucket_refuses_before_the_work_and_the_number_of_buckets_is_bounded():
    buckets = TokenBuckets(RateLimit(per_second=1, burst=1), "too often: {}")
    buckets.require("k", at=0.0)
    buckets.take("k", 1, at=0.0)
    with pytest.raises(AccessDenied, match="too often: 1"):
        buckets.require("k", at=0.5)
    buckets.require("k", at=1.0)
    for number in range(20_000):
        buckets.take(f"address-{number}", 1, at=2.0)
    assert len(buckets._levels) == 10_000


def test_a_batch_larger_than_the_bucket_needs_a_full_one():
    buckets = TokenBuckets(RateLimit(per_second=10, burst=20))
    buckets.take("k", 1_000, at=0.0)
    with pytest.raises(AccessDenied):
        buckets.take("k", 1, at=0.05)
    buckets.take("k", 1_000, at=2.0)
