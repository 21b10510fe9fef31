"""Addresses of pages: the host in its one form, the site that it belongs to, and the tags of the link."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.door.page_address import campaign_of, host_of, link_tags_of, read_page_address, site_of
from schemas.envelope import Campaign


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("https://www.acme.example/pricing?a=1", "www.acme.example"),
        ("HTTPS://WWW.ACME.EXAMPLE", "www.acme.example"),
        ("https://acme.example:8443/", "acme.example"),
        ("https://acme.example./", "acme.example"),
        ("acme.example", "acme.example"),
        ("acme.example:443/x", "acme.example"),
        ("//acme.example/x", "acme.example"),
        ("https://google.com@evil.example/", "evil.example"),
        ("https://google.com:80@evil.example/", "evil.example"),
        ("https://google.com\\@evil.example/", "google.com"),
        ("https://bücher.example/", "xn--bcher-kva.example"),
        ("https://XN--BCHER-KVA.example/", "xn--bcher-kva.example"),
        ("https://203.0.113.9:80/", "203.0.113.9"),
        ("https://[2001:DB8::1]/", "2001:db8::1"),
        (" https://acme.example/\n", "acme.example"),
        ("https%3A%2F%2Facme.example%2F", "acme.example"),
        ("android-app://com.Facebook.katana/", "com.facebook.katana"),
    ],
)
def test_a_host_has_one_form(text, host):
    assert read_page_address(text).host == host


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        " ",
        "-",
        "/pricing",
        "about:blank",
        "about:srcdoc",
        "(direct)",
        "null",
        "http://[broken",
        "http://",
        "https://localhost:3000/",
        "data:text/html,google.com",
        "javascript:location='https://google.com'",
        "file:///google.com",
        "chrome-extension://abcdef/page.html",
        "https://-.example/",
        "https://a..example/",
        "https://" + "a" * 300 + ".example/",
        "https://2130706433/",
        "https://1.2.3.4.5/",
    ],
)
def test_what_is_no_page_has_no_host(text):
    assert read_page_address(text) is None


@pytest.mark.parametrize(
    ("host", "site"),
    [
        ("shop.acme.example", "acme.example"),
        ("www.acme.co.uk", "acme.co.uk"),
        ("acme.github.io", "acme.github.io"),
        ("a.acme.github.io", "acme.github.io"),
        ("203.0.113.9", "203.0.113.9"),
        ("co.uk", "co.uk"),
    ],
)
def test_a_site_is_what_somebody_registered(host, site):
    assert site_of(host) == site


LETTER = {"utm_source": "letter", "utm_medium": "email", "utm_campaign": "May sale"}


@pytest.mark.parametrize(
    "address",
    [
        "https://acme.example/?utm_source=letter&utm_medium=email&utm_campaign=May+sale",
        "/?utm_source=letter&utm_medium=email&utm_campaign=May%20sale",
        "/pricing?UTM_Source=letter&Utm_Medium=email&UTM_CAMPAIGN=May%20sale",
        "/?utm_source=letter&amp;utm_medium=email&amp;utm_campaign=May+sale",
        "/?utm_source=letter&amp;amp;utm_medium=email&amp;amp;utm_campaign=May+sale",
        "/#utm_source=letter&utm_medium=email&utm_campaign=May+sale",
        "/?utm_source=letter#utm_medium=email&utm_campaign=May+sale",
        "/#/offers?utm_source=letter&utm_medium=email&utm_campaign=May+sale",
        "/?utm_source=letter&utm_source=other&utm_medium=email&utm_campaign=May+sale",
        "/?utm_source=&utm_source=letter&utm_medium=email&utm_campaign=May+sale",
        "/?id=7?utm_source=letter&utm_medium=email&utm_campaign=May+sale",
        "/?utm_source=letter;utm_medium=email;utm_campaign=May+sale",
        "/?utm%5Fsource=letter&utm_medium=%20email%20&utm_campaign=May+sale",
        "http://[broken/?utm_source=letter&utm_medium=email&utm_campaign=May+sale",
        "/?utm_source=letter&utm_medium=email&utm_campaign=May+sale&utm_term=&utm_content=%20&utm_id=null",
    ],
)
def test_the_tags_of_a_link_are_read_however_it_is_written(address):
    tags = link_tags_of(address)
    assert {name: tags.get(name) for name in LETTER} == LETTER
    assert campaign_of(None, tags) == Campaign(source="letter", medium="email", name="May sale")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "%20",
        "(not%20set)",
        "(none)",
        "null",
        "undefined",
        "-",
        "%E2%80%8B",
        "%7B%7Bcampaign.name%7D%7D",
        "Not%20Available",
        "...",
    ],
)
def test_a_blank_tag_says_nothing(value):
    assert campaign_of(None, link_tags_of(f"/?utm_source={value}&utm_campaign={value}")) is None


def test_unseen_characters_are_no_part_of_a_tag_and_north_america_is_one():
    tags = link_tags_of("/?utm_source=%E2%80%8Egoo%C2%ADgle%EF%BB%BF&utm_campaign=NA")
    assert campaign_of(None, tags) == Campaign(source="google", name="NA")


def test_the_id_of_a_campaign_is_a_field_of_its_own():
    assert campaign_of(None, link_tags_of("/?utm_id=abc.123")) == Campaign(id="abc.123")


def test_what_the_producer_states_wins_field_by_field():
    tags = link_tags_of("/?utm_source=letter&utm_medium=email&utm_campaign=May")
    assert campaign_of(Campaign(name="June", source=" "), tags) == Campaign(
        source="letter", medium="email", name="June"
    )


def test_a_campaign_of_blanks_is_none():
    assert campaign_of(Campaign(source="", medium="  ", name="(not set)"), {}) is None


def test_long_values_that_begin_alike_stay_two():
    begin = "x" * 600
    one, other = (campaign_of(None, link_tags_of(f"/?utm_campaign={begin}{end}")) for end in "ab")
    assert one != other
    assert one.name[:400] == other.name[:400] == begin[:400]
    assert len(one.name) == len(other.name) == 512


@given(st.text(max_size=200))
@example("http://\u2488/")
@example("//\ud800.example")
@example("https://a%00b.example/?utm_source=%00%ff&utm_medium=\ud800")
def test_no_address_is_too_strange(text):
    read_page_address(text)
    host_of(text)
    for value in link_tags_of(text).values():
        assert 0 < len(value) <= 512
        assert "\0" not in value


@pytest.mark.parametrize(
    "text",
    ["?" + "&" * 64_000, "?" + "amp;" * 16_000, "?utm_" * 12_000, "https://" + "." * 64_000, "%25" * 21_000],
    ids=["ampersands", "entities", "tags", "dots", "percents"],
)
def test_the_cost_of_an_address_is_linear(text):
    start = time.process_time()
    read_page_address(text)
    link_tags_of(text)
    assert time.process_time() - start < 0.5
