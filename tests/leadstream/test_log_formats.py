"""Each format of access logs, by the example lines of its documentation and lines as servers write them."""

import gzip
import io
import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadstream.console import Failure
from leadstream.operations.access_log import (
    DOWNLOAD_PIECE,
    MALFORMED,
    LogLine,
    read_access_log,
    visitor_id_of,
)
from leadstream.operations.imports import import_access_log, import_events, open_source
from leadstream.operations.log_formats.addresses import client_address
from leadstream.operations.log_formats.combined import read_combined
from leadstream.operations.log_formats.formats import FORMATS, UnknownLogFormatError
from leadstream.operations.log_formats.moments import read_moment
from schemas.events import PageViewed

FIELD_CASES = Path(__file__).parents[2] / "../shared/data/field-cases"
NOW = datetime(2026, 12, 1, tzinfo=UTC)
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0"


def lines_of(*texts: str, site: str = "") -> list[LogLine]:
    return list(read_access_log([text.encode() for text in texts], tenant="default", site=site))


def views(*texts: str, site: str = "") -> list[PageViewed]:
    return [each.event for each in lines_of(*texts, site=site) if isinstance(each.event, PageViewed)]


def shown(view: PageViewed) -> tuple[str | None, str, str | None, str | None, str | None]:
    """Time, address, page, referrer and user agent."""
    context = view.context
    assert context is not None
    return context.ip, view.occurred_at.isoformat(), view.url, context.referrer, context.user_agent


def combined(
    before: str = "203.0.113.7 - -", request: str = "GET /a HTTP/1.1", status: int = 200, more: str = ""
) -> str:
    return f'{before} [20/Nov/2026:10:00:00 +0000] "{request}" {status} 512 "-" "{FIREFOX}"{more}'


# Examples of the documentation


APACHE = (
    '127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326',
    (
        '127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326 '
        '"http://www.example.com/start.html" "Mozilla/4.08 [en] (Win98; I ;Nav)"'
    ),
)
CADDY = (
    '{"level":"info","ts":1646861401.5241024,"logger":"http.log.access","msg":"handled request","request":'
    '{"remote_ip":"127.0.0.1","remote_port":"41342","client_ip":"127.0.0.1","proto":"HTTP/2.0","method":"GET",'
    '"host":"localhost","uri":"/","headers":{"User-Agent":["curl/7.82.0"],"Accept":["*/*"],'
    '"Accept-Encoding":["gzip, deflate, br"]},"tls":{"resumed":false,"version":772,"cipher_suite":4865,'
    '"proto":"h2","server_name":"example.com"}},"bytes_read": 0,"user_id":"","duration":0.000929675,"size":10900,'
    '"status":200,"resp_headers":{"Server":["Caddy"],"Content-Encoding":["gzip"],'
    '"Content-Type":["text/html; charset=utf-8"],"Vary":["Accept-Encoding"]}}'
)
ALB = (
    "http 2018-07-02T22:23:00.186641Z app/my-loadbalancer/50dc6c495c0c9188 192.168.131.39:2817 10.0.0.1:80 "
    '0.000 0.001 0.000 200 200 34 366 "GET http://www.example.com:80/ HTTP/1.1" "curl/7.46.0" - - '
    "arn:aws:elasticloadbalancing:us-east-2:123456789012:targetgroup/my-targets/73e2d6bc24d8a067 "
    '"Root=1-58337262-36d228ad5d99923122bbe354" "-" "-" 0 2018-07-02T22:22:48.364000Z "forward" "-" "-" '
    '"10.0.0.1:80" "200" "-" "-"'
)
ALB_HTTP2 = (
    "h2 2018-07-02T22:23:00.186641Z app/my-loadbalancer/50dc6c495c0c9188 10.0.1.252:48160 10.0.0.66:9000 "
    '0.000 0.002 0.000 200 200 5 257 "GET https://10.0.2.105:773/ HTTP/2.0" "curl/7.46.0" '
    "ECDHE-RSA-AES128-GCM-SHA256 TLSv1.2 "
    "arn:aws:elasticloadbalancing:us-east-2:123456789012:targetgroup/my-targets/73e2d6bc24d8a067 "
    '"Root=1-58337327-72bd00b0343d75b906739c42" "-" "-" 1 2018-07-02T22:22:48.364000Z "redirect" '
    '"https://example.com:80/" "-" "10.0.0.66:9000" "200" "-" "-"'
)
ELB = (
    "2015-05-13T23:39:43.945958Z my-loadbalancer 192.168.131.39:2817 10.0.0.1:80 0.000073 0.001048 0.000057 "
    '200 200 0 29 "GET http://www.example.com:80/ HTTP/1.1" "curl/7.38.0" - -'
)
ELB_TCP = (
    "2015-05-13T23:39:43.945958Z my-loadbalancer 192.168.131.39:2817 10.0.0.1:80 0.001069 0.000028 0.000041 "
    '- - 82 305 "- - - " "-" - -'
)
IIS_6 = (
    "#Software: Internet Information Services 6.0",
    "#Version: 1.0",
    "#Date: 2001-05-02 17:42:15",
    "#Fields: time c-ip cs-method cs-uri-stem sc-status cs-version",
    "17:42:15 172.16.255.255 GET /default.htm 200 HTTP/1.0",
)
CLOUDFRONT = (
    "#Version: 1.0",
    (
        "#Fields: date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status cs(Referer) "
        "cs(User-Agent) cs-uri-query cs(Cookie) x-edge-result-type x-edge-request-id x-host-header cs-protocol cs-bytes "
        "time-taken x-forwarded-for ssl-protocol ssl-cipher x-edge-response-result-type cs-protocol-version fle-status "
        "fle-encrypted-fields c-port time-to-first-byte x-edge-detailed-result-type sc-content-type sc-content-len "
        "sc-range-start sc-range-end"
    ),
    (
        "2019-12-04\t21:02:31\tLAX1\t392\t192.0.2.100\tGET\td111111abcdef8.cloudfront.net\t/index.html\t200\t-\t"
        "Mozilla/5.0%20(Windows%20NT%2010.0;%20Win64;%20x64)%20AppleWebKit/537.36%20(KHTML,%20like%20Gecko)%20"
        "Chrome/78.0.3904.108%20Safari/537.36\t-\t-\tHit\tSOX4xwn4XV6Q4rgb7XiVGOHms_BGlTAC4KyHmureZmBNrjGdRLiNIQ==\t"
        "d111111abcdef8.cloudfront.net\thttps\t23\t0.001\t-\tTLSv1.2\tECDHE-RSA-AES128-GCM-SHA256\tHit\tHTTP/2.0\t-\t-\t"
        "11040\t0.001\tHit\ttext/html\t78\t-\t-"
    ),
)


def test_apache_s_examples_are_read():
    """They request a picture; here it is a page."""
    common, full = views(*(each.replace("apache_pb.gif", "page") for each in APACHE))
    assert shown(common) == ("127.0.0.1", "2000-10-10T20:55:36+00:00", "/page", None, None)
    assert common.bot is None
    assert shown(full) == (
        "127.0.0.1",
        "2000-10-10T20:55:36+00:00",
        "/page",
        "http://www.example.com/start.html",
        "Mozilla/4.08 [en] (Win98; I ;Nav)",
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CADDY, ("127.0.0.1", "2022-03-09T21:30:01.524102+00:00", "https://localhost/", None, "curl/7.82.0")),
        (
            ALB,
            (
                "192.168.131.39",
                "2018-07-02T22:23:00.186641+00:00",
                "http://www.example.com/",
                None,
                "curl/7.46.0",
            ),
        ),
        (
            ALB_HTTP2,
            (
                "10.0.1.252",
                "2018-07-02T22:23:00.186641+00:00",
                "https://10.0.2.105:773/",
                None,
                "curl/7.46.0",
            ),
        ),
        (
            ELB,
            (
                "192.168.131.39",
                "2015-05-13T23:39:43.945958+00:00",
                "http://www.example.com/",
                None,
                "curl/7.38.0",
            ),
        ),
    ],
)
def test_examples_of_the_documentation_are_read(text: str, expected: tuple[str | None, ...]):
    [view] = views(text)
    assert shown(view) == expected


@pytest.mark.parametrize("client", ["[2001:db8::7]:2817", "2001:db8::7:2817"])
def test_a_load_balancer_puts_a_port_behind_every_address(client: str):
    [view] = views(ALB.replace("192.168.131.39:2817", client))
    assert shown(view)[0] == "2001:db8::7"


def test_a_connection_without_http_is_no_visit():
    [line] = lines_of(ELB_TCP)
    assert line.reason == "not GET"


def test_iis_takes_the_date_from_its_directive():
    [view] = views(*IIS_6)
    assert shown(view) == ("172.16.255.255", "2001-05-02T17:42:15+00:00", "/default.htm", None, None)


def test_cloudfront_s_example_is_read():
    [view] = views(*CLOUDFRONT)
    assert shown(view) == (
        "192.0.2.100",
        "2019-12-04T21:02:31+00:00",
        "https://d111111abcdef8.cloudfront.net/index.html",
        None,
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
            "Chrome/78.0.3904.108 Safari/537.36"
        ),
    )


# Common and combined


@pytest.mark.parametrize(
    ("before", "address"),
    [
        ("203.0.113.7 - -", "203.0.113.7"),
        ("203.0.113.7, 10.183.250.139 - -", "203.0.113.7"),
        ("203.0.113.7,10.183.250.139 - -", "203.0.113.7"),
        ("203.0.113.7, 198.51.100.1, 10.0.0.2 - -", "203.0.113.7"),
        ("203.0.113.7 10.0.0.2 - -", "203.0.113.7"),
        ("- 203.0.113.7 - -", "203.0.113.7"),
        ("unknown, 203.0.113.7 - -", "203.0.113.7"),
        ("192.168.1.4, 203.0.113.7 - -", "203.0.113.7"),
        ("10.1.2.3 - -", "10.1.2.3"),
        ("203.0.113.7:52311 - -", "203.0.113.7"),
        ("203.0.113.7:52311, 10.0.0.2:80 - -", "203.0.113.7"),
        ("2001:db8::7 - -", "2001:db8::7"),
        ("[2001:db8::7] - -", "2001:db8::7"),
        ("[2001:db8::7]:52311 - -", "2001:db8::7"),
        ("fe80::7%eth0 - -", "fe80::7"),
        ("[fe80::7%eth0]:52311 - -", "fe80::7"),
        ("2001:db8::7, 10.0.0.2 - -", "2001:db8::7"),
        ("2001:db8::7 10.0.0.2 - -", "2001:db8::7"),
        ("client.isp.example - -", "client.isp.example"),
        ("203.0.113.7 - john", "203.0.113.7"),
        ("203.0.113.7 - John Smith", "203.0.113.7"),
        ("203.0.113.7 - CORP\\\\John Smith jr.", "203.0.113.7"),
        ("203.0.113.7 - a [b] c", "203.0.113.7"),
        ("203.0.113.7, 10.0.0.2 - John Smith", "203.0.113.7"),
        ('"203.0.113.7, 10.0.0.2" 10.0.0.9 - -', "203.0.113.7"),
        ("Nov 20 10:00:00 web nginx: 203.0.113.7 - -", "203.0.113.7"),
        ("<190>Nov 20 10:00:00 web nginx[7]: 203.0.113.7, 10.0.0.2 - -", "203.0.113.7"),
        ("2026-11-20T10:00:00.1Z stdout F 203.0.113.7 - -", "203.0.113.7"),
        ("<190>Nov 20 10:00:00 10.0.0.9 nginx: 203.0.113.7 - -", "203.0.113.7"),
        ("Nov 20 10:00:00 web nginx: client.isp.example - -", "client.isp.example"),
        ("web-1  | 203.0.113.7 - -", "203.0.113.7"),
        ("- - -", "-"),
        ("unix: - -", "unix:"),
        ("client.isp.example - 10.0.0.5", "client.isp.example"),
    ],
)
def test_the_visitor_is_the_first_address(before: str, address: str):
    [view] = views(combined(before))
    assert view.visitor_id == visitor_id_of(address, FIREFOX)
    assert shown(view)[::2] == (address, "/a", FIREFOX)


@pytest.mark.parametrize(
    ("before", "address", "url"),
    [
        ("www.acme.example:443 198.51.100.9 - -", "198.51.100.9", "https://www.acme.example/a"),
        ("www.acme.example:80 198.51.100.9 - -", "198.51.100.9", "http://www.acme.example/a"),
        ("www.acme.example 198.51.100.9 - -", "198.51.100.9", "https://www.acme.example/a"),
        ("www.acme.example:443 198.51.100.9, 10.0.0.1 - -", "198.51.100.9", "https://www.acme.example/a"),
        ("WWW.Acme.Example:443 198.51.100.9 - J. Smith", "198.51.100.9", "https://www.acme.example/a"),
        ("www.acme.example:443 2001:db8::7 - -", "2001:db8::7", "https://www.acme.example/a"),
        ("www.acme.example:443 client.isp.example - -", "client.isp.example", "https://www.acme.example/a"),
        ("192.0.2.1:443 198.51.100.9 - -", "198.51.100.9", "https://192.0.2.1/a"),
        ("localhost:80 198.51.100.9 - -", "198.51.100.9", "http://localhost/a"),
        ("_:443 198.51.100.9 - -", "198.51.100.9", "/a"),
        ("198.51.100.9 www.acme.example -", "198.51.100.9", "https://www.acme.example/a"),
    ],
)
def test_a_host_in_the_line_makes_the_page_s_address_whole(before: str, address: str, url: str):
    """Apache's vhost_combined puts it first; lighttpd puts it where others have the ident."""
    [view] = views(combined(before))
    assert shown(view)[::2] == (address, url, FIREFOX)
    [view] = views(combined(before), site="https://acme.example/")
    assert view.url == "https://acme.example/a"


@pytest.mark.parametrize(
    ("more", "address"),
    [
        (' "198.51.100.9"', "198.51.100.9"),
        (' "198.51.100.9, 172.16.0.4"', "198.51.100.9"),
        (' "10.9.9.9, 198.51.100.9"', "198.51.100.9"),
        (' "-"', "203.0.113.7"),
        (' "10.9.9.9"', "203.0.113.7"),
        (' 0.005 0.004 "198.51.100.9"', "198.51.100.9"),
        (' rt=0.005 uct="0.000" uht="0.004" urt="0.004"', "203.0.113.7"),
        (" 1204 8321", "203.0.113.7"),
        (' "198.51.100.30:8080"', "203.0.113.7"),
        (' "shop" "198.51.100.30"', "203.0.113.7"),
        (' 17 "my-router@docker" "http://10.0.0.1:80" 3ms', "203.0.113.7"),
        (' "unclosed', "203.0.113.7"),
    ],
)
def test_what_is_behind_the_user_agent_names_the_visitor_or_is_skipped(more: str, address: str):
    """Nginx's `main` format has X-Forwarded-For there; Traefik its router; others times."""
    [view] = views(combined(more=more))
    assert shown(view)[::2] == (address, "/a", FIREFOX)


def test_fields_between_the_size_and_the_referrer_are_skipped():
    text = f'203.0.113.7 - - [20/Nov/2026:10:00:00 +0000] "GET /a HTTP/1.1" 200 512 0.012 - "-" "{FIREFOX}"'
    for each in (text, text.replace(" ", "\t"), text.replace(" 200 ", ' "200" ')):
        [view] = views(each.replace(FIREFOX.replace(" ", "\t"), FIREFOX).replace("\t+0000", " +0000"))
        assert shown(view)[::2] == ("203.0.113.7", "/a", FIREFOX)


@pytest.mark.parametrize("more", ["", " 0.004", " 1204 8321", ' "www.acme.example" 0.004'])
def test_a_common_log_has_visitors_without_user_agents(more: str):
    lines = lines_of(f'203.0.113.7 - - [20/Nov/2026:10:00:00 +0000] "GET /a HTTP/1.1" 200 512{more}')
    [line] = lines
    assert isinstance(line.event, PageViewed)
    assert (line.event.bot, line.records_agent) == (None, False)
    assert line.event.visitor_id == visitor_id_of("203.0.113.7", "")


def test_a_combined_line_that_was_cut_off_is_no_common_one():
    [_, cut] = lines_of(combined(), combined()[:-20])
    assert cut.reason == MALFORMED


@pytest.mark.parametrize(
    "text",
    [
        "20/Nov/2026:10:00:00 +0000",
        "20/Nov/2026:12:00:00 +0200",
        "20/Nov/2026:10:00:00.123456 +0000",
        "2026-11-20T10:00:00+00:00",
        "2026-11-20T11:00:00+0100",
        "2026-11-20T10:00:00.000Z",
        "2026-11-20 10:00:00",
        "2026/11/20 10:00:00.000",
        "1795168800",
        "1795168800.000",
        "1795168800000",
        "1795168800000000",
        "1795168800000000000",
    ],
)
def test_every_way_to_write_a_time_means_the_same(text: str):
    moment = read_moment(text)
    assert moment is not None
    assert moment.replace(microsecond=0) == datetime(2026, 11, 20, 10, tzinfo=UTC)


@given(st.text(max_size=60) | st.from_regex(r"[0-9/:T.Z +-]{8,41}", fullmatch=True))
def test_any_other_text_is_no_time(text: str):
    moment = read_moment(text)
    assert moment is None or moment.tzinfo is UTC


@given(st.lists(st.none() | st.text('0123456789abf.:,[]% "-', max_size=30), max_size=3))
def test_any_text_names_an_address_or_none(lists: list[str | None]):
    assert isinstance(client_address(*lists), str)


# JSON


@pytest.mark.parametrize(
    "fields",
    [
        {"time_iso8601": "2026-11-20T10:00:00+00:00", "request": "GET /a?b=c HTTP/1.1"},
        {"time_local": "20/Nov/2026:10:00:00 +0000", "request_method": "GET", "request_uri": "/a?b=c"},
        {"msec": "1795168800.000", "request_method": "GET", "uri": "/a", "args": "b=c"},
        {"@timestamp": "2026-11-20T10:00:00Z", "method": "GET", "uri": "/a", "query_string": "?b=c"},
        {"time": "2026-11-20T10:00:00Z", "request": "GET /a?b=c HTTP/2.0", "args": "b=c"},
    ],
)
@pytest.mark.parametrize("status", [200, "200"])
def test_nginx_in_json_is_read_by_the_keys_that_people_use(fields: dict[str, str], status: object):
    line = {
        "remote_addr": "203.0.113.7",
        "status": status,
        "http_referer": "https://www.google.com/",
        "http_user_agent": FIREFOX,
        "host": "www.acme.example",
        "scheme": "https",
        **fields,
    }
    [view] = views(json.dumps(line))
    assert shown(view) == (
        "203.0.113.7",
        "2026-11-20T10:00:00+00:00",
        "https://www.acme.example/a?b=c",
        "https://www.google.com/",
        FIREFOX,
    )


def test_json_behind_a_proxy_names_the_visitor():
    line = {
        "remote_addr": "10.0.0.2",
        "http_x_forwarded_for": "198.51.100.9, 10.0.0.1",
        "time_iso8601": "2026-11-20T10:00:00+00:00",
        "request": "GET / HTTP/1.1",
        "status": 200,
        "http_user_agent": "",
    }
    [view] = views(json.dumps(line))
    assert shown(view)[0] == "198.51.100.9"
    assert view.bot == "no user agent"


def test_nginx_without_escape_json_is_read_too():
    r"""Its default escape writes \x22 for a quote, which is no JSON."""
    text = (
        r'{"remote_addr":"203.0.113.7","time_iso8601":"2026-11-20T10:00:00+00:00","request":"GET / HTTP/1.1",'
        r'"status":"200","http_user_agent":"a \x22b\x22"}'
    )
    assert shown(views(text)[0])[4] == 'a "b"'


def test_traefik_in_json_is_read():
    line = {
        "ClientAddr": "203.0.113.7:53211",
        "ClientHost": "203.0.113.7",
        "DownstreamStatus": 200,
        "OriginStatus": 200,
        "RequestHost": "www.acme.example",
        "RequestMethod": "GET",
        "RequestPath": "/a?b=c",
        "RequestScheme": "https",
        "StartUTC": "2026-11-20T10:00:00.123456789Z",
        "request_Referer": "https://www.google.com/",
        "request_User-Agent": FIREFOX,
        "time": "2026-11-20T10:00:01Z",
    }
    assert shown(views(json.dumps(line))[0]) == (
        "203.0.113.7",
        "2026-11-20T10:00:00.123456+00:00",
        "https://www.acme.example/a?b=c",
        "https://www.google.com/",
        FIREFOX,
    )


def caddy(**request: object) -> str:
    return json.dumps(
        {
            "ts": "2026-11-20T10:00:00.000Z",
            "status": 200,
            "request": {
                "remote_ip": "10.0.0.2",
                "method": "GET",
                "host": "acme.example",
                "uri": "/a",
                **request,
            },
        }
    )


def test_caddy_prefers_the_client_that_it_trusts_and_names_the_referrer():
    headers = {"User-Agent": [FIREFOX], "Referer": ["https://www.google.com/"]}
    [view] = views(caddy(client_ip="198.51.100.9", headers=headers))
    assert shown(view) == (
        "198.51.100.9",
        "2026-11-20T10:00:00+00:00",
        "https://acme.example/a",
        "https://www.google.com/",
        FIREFOX,
    )
    assert views(caddy())[0].bot == "no user agent"
    forwarded = {"User-Agent": [FIREFOX], "X-Forwarded-For": ["198.51.100.9, 10.0.0.1"]}
    assert shown(views(caddy(headers=forwarded))[0])[0] == "198.51.100.9"


def test_docker_wraps_lines_of_any_of_these():
    for inner in (combined(), CADDY.replace("127.0.0.1", "203.0.113.7")):
        wrapped = {"log": f"{inner}\n", "stream": "stdout", "time": "2026-11-20T10:00:00.1Z"}
        assert shown(views(json.dumps(wrapped))[0])[0] == "203.0.113.7"


def test_apache_in_json_is_read():
    """As a format of people's own, with the names of their choice."""
    line = {
        "Time": "[20/Nov/2026:10:00:00 +0000]",
        "RemoteIP": "203.0.113.7",
        "Host": "www.acme.example",
        "Request": "/a",
        "Query": "?b=c",
        "Method": "GET",
        "Status": "200",
        "UserAgent": FIREFOX,
        "Referer": "-",
    }
    assert shown(views(json.dumps(line))[0])[::2] == (
        "203.0.113.7",
        "https://www.acme.example/a?b=c",
        FIREFOX,
    )


# W3C


IIS_FIELDS = (
    "#Fields: date time s-ip cs-method cs-uri-stem cs-uri-query s-port cs-username c-ip cs(User-Agent) "
    "cs(Referer) sc-status sc-substatus sc-win32-status time-taken"
)


def iis(query: str = "-", referrer: str = "-", agent: str = "Mozilla/5.0+(Windows+NT+10.0)") -> str:
    return f"2026-11-20 10:00:00 10.0.0.4 GET /a {query} 443 - 203.0.113.7 {agent} {referrer} 200 0 0 15"


def test_iis_as_it_is_installed_is_read():
    lines = lines_of(IIS_FIELDS, iis("utm_source=g&x=1", "https://www.google.com/"))
    [line] = lines
    assert line.number == 2
    assert isinstance(line.event, PageViewed)
    assert shown(line.event) == (
        "203.0.113.7",
        "2026-11-20T10:00:00+00:00",
        "/a?utm_source=g&x=1",
        "https://www.google.com/",
        "Mozilla/5.0 (Windows NT 10.0)",
    )
    assert views(IIS_FIELDS, iis(agent="-"))[0].bot == "no user agent"


def test_columns_may_change_in_a_file():
    """IIS writes its header again at every start, with the columns of that day."""
    later = (
        "#Software: Microsoft Internet Information Services 10.0",
        "#Fields: date time cs-host cs-method cs-uri-stem c-ip X-Forwarded-For cs(User-Agent) sc-status",
        "2026-11-20 11:00:00 www.acme.example GET /b 10.0.0.2 198.51.100.9,+10.0.0.1 Mozilla/5.0 200",
    )
    first, second = views(IIS_FIELDS, iis(), *later)
    assert shown(first)[::2] == ("203.0.113.7", "/a", "Mozilla/5.0 (Windows NT 10.0)")
    assert shown(second)[::2] == ("198.51.100.9", "https://www.acme.example/b", "Mozilla/5.0")


def test_a_w3c_line_with_other_columns_than_named_is_malformed():
    assert [each.reason for each in lines_of(IIS_FIELDS, iis(), iis() + " more")] == [None, MALFORMED]


@pytest.mark.parametrize(
    ("logged", "sent"),
    [
        (r"/stra\xc3\x9fe?utm_campaign=f\xc3\xbcr", "/straße?utm_campaign=für"),
        (r"/p?q=\"a\"", '/p?q="a"'),
        (r"/p?q=\x22a\x5C", '/p?q="a\\'),
        (r"/p?q=\xff\x00\x1b", r"/p?q=\xff\x00\x1b"),
    ],
)
def test_what_a_server_escapes_is_read_as_the_client_sent_it(logged: str, sent: str):
    line = f'203.0.113.7 - - [30/Nov/2025:10:00:00 +0000] "GET {logged} HTTP/1.1" 200 5 "https://a.example{logged}" "Firefox"'
    request = read_combined(line)
    assert request is not None
    assert (request.target, request.referrer) == (sent, f"https://a.example{sent}")


def test_a_log_of_haproxy_in_common_format_records_no_user_agents():
    haproxy = (
        '203.0.113.7 - - [30/Nov/2025:10:00:00 +0000] "GET /p HTTP/1.1" 200 2750 "" "" 33317 655 "http-in" "static" '
        '"srv1" 10 0 30 69 109 ---- 1 1 1 1 0 0 0 "{1wt.eu}" "{}"'
    )
    (line,) = lines_of(haproxy)
    assert line.event is not None
    assert (line.event.bot, line.records_agent) == (None, False)


# The file as a whole


def test_lines_of_several_formats_in_one_file_are_all_read():
    texts = [combined(), CADDY, ALB, "junk", combined("www.acme.example:443 198.51.100.9 - -")]
    assert [each.reason for each in lines_of(*texts)] == [None, None, None, MALFORMED, None]


def test_junk_before_the_first_request_is_malformed_in_its_place():
    assert [(each.number, each.reason) for each in lines_of("junk", "", "more", combined())] == [
        (1, MALFORMED),
        (3, MALFORMED),
        (4, None),
    ]


@pytest.mark.parametrize(
    ("first", "named"),
    [
        ("Nov 20 10:00:00 web sshd[7]: Accepted publickey", "Its first line is: Nov 20 10:00:00 web sshd"),
        (
            '{"msg": "started", "level": "info", "ts": 1795168800}',
            "Its lines are JSON. Address, time, request or status is not among the keys: msg, level, ts.",
        ),
        (
            '{"type": "page_viewed", "event_id": "e", "visitor_id": "v"}',
            "Its lines are events: use `leadstream import events`.",
        ),
        (iis(), "the #Fields line that names its columns is missing"),
        (
            (
                "Nov 30 10:00:00 lb haproxy[14389]: 203.0.113.7:33317 [30/Nov/2025:10:00:00.655] http-in static/srv1 "
                '10/0/30/69/109 200 2750 - - ---- 1/1/1/1/0 0/0 {1wt.eu} {} "GET /p HTTP/1.1"'
            ),
            "It looks like HAProxy's log. `option httplog clf`",
        ),
        (
            "203.0.113.7, -, 11/30/2025, 10:00:00, W3SVC1, WEB, 10.0.0.5, 15, 300, 1200, 200, 0, GET, /p0, -,",
            "It looks like IIS's own format.",
        ),
        (
            '2025/11/30 10:00:00.123\tINFO\thttp.log.access.log0\thandled request\t{"request": {}}',
            "It looks like Caddy's console format.",
        ),
        (
            "[Sun Nov 30 10:00:00.123 2025] [core:error] [pid 1] [client 203.0.113.7:1] AH00126: Invalid URI",
            "It looks like the error log of a web server",
        ),
        (
            "79a59 bucket [30/Nov/2025:10:00:00 +0000] 203.0.113.7 79a59 3E5742 REST.GET.OBJECT a.html",
            "It looks like the log of an Amazon S3 bucket",
        ),
        ("\x00\x01\x02PNG\x03\x04", "It is no text file."),
    ],
)
def test_a_log_in_no_supported_format_is_refused_with_what_it_is_and_what_is_supported(
    first: str, named: str
):
    with pytest.raises(Failure, match="The format of the log is not supported") as failed:
        import_access_log([first.encode()] * 3, lambda _: None, NOW, tenant="default")
    assert named in str(failed.value)
    assert all(each.name in str(failed.value) for each in FORMATS)


def test_a_long_log_in_no_format_is_refused_by_its_first_lines():
    read = 0

    def endless() -> Iterable[bytes]:
        nonlocal read
        while True:
            read += 1
            yield b"junk\n"

    with pytest.raises(UnknownLogFormatError):
        list(read_access_log(endless(), tenant="default"))
    assert read == 100


def test_an_empty_log_has_no_format_and_is_no_error():
    assert lines_of("", "  ") == []
    assert lines_of("#Software: Microsoft Internet Information Services 10.0", IIS_FIELDS) == []


@given(
    st.lists(st.binary(max_size=80) | st.sampled_from([each.encode() for each in (CADDY, ALB, *CLOUDFRONT)]))
)
def test_no_bytes_end_the_reading_of_a_log(texts: list[bytes]):
    lines = [combined().encode(), *(text.replace(b"\n", b"") for text in texts)]
    for line in read_access_log(lines, tenant="default"):
        assert (line.event is None) == (line.reason is not None)


# Downloads in pieces


def piece(minute: int, status: int = 206, path: str = "/brochure.pdf", address: str = "203.0.113.7") -> str:
    return combined(f"{address} - -", f"GET {path} HTTP/1.1", status).replace(
        "10:00:00", f"10:{minute:02}:00"
    )


def test_the_pieces_of_a_download_count_once():
    texts = [piece(0), piece(0), piece(1), piece(29), piece(59)]
    assert [each.reason for each in lines_of(*texts)] == [
        None,
        DOWNLOAD_PIECE,
        DOWNLOAD_PIECE,
        DOWNLOAD_PIECE,
        DOWNLOAD_PIECE,
    ]


def test_pieces_that_follow_a_whole_answer_count_with_it():
    assert [each.reason for each in lines_of(piece(0, 200), piece(0), piece(1))] == [
        None,
        DOWNLOAD_PIECE,
        DOWNLOAD_PIECE,
    ]


def test_other_visitors_addresses_and_hours_are_other_downloads():
    texts = [piece(0), piece(0, path="/b.pdf"), piece(0, address="203.0.113.8"), piece(31), piece(31, 200)]
    assert [each.reason for each in lines_of(*texts)] == [None] * 5


# Files as Windows and proxies save them


def source_of(content: bytes, tmp_path: Path) -> list[bytes]:
    (tmp_path / "file").write_bytes(content)
    with open_source(str(tmp_path / "file")) as source:
        return list(source.lines(lambda _: None))


TEXT = "203.0.113.7 – é\r\n198.51.100.9\r\n"
ENCODED = {
    "utf-8": TEXT.encode(),
    "utf-8 with a mark": b"\xef\xbb\xbf" + TEXT.encode(),
    "utf-16, little end first": b"\xff\xfe" + TEXT.encode("utf-16-le"),
    "utf-16, big end first": b"\xfe\xff" + TEXT.encode("utf-16-be"),
    "utf-16 without a mark": TEXT.encode("utf-16-le"),
    "utf-16-be without a mark": TEXT.encode("utf-16-be"),
}


@pytest.mark.parametrize("name", ENCODED)
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_is_read_in_whatever_encoding_windows_saves_it(name: str, *, packed: bool, tmp_path: Path):
    content = gzip.compress(ENCODED[name]) if packed else ENCODED[name]
    assert b"".join(source_of(content, tmp_path)) == TEXT.encode()
    with mock.patch.object(sys, "stdin", mock.Mock(buffer=io.BytesIO(content))), open_source("-") as source:
        assert b"".join(source.lines(lambda _: None)) == TEXT.encode()


def test_files_that_were_joined_have_several_marks(tmp_path: Path):
    part = b"\xef\xbb\xbfa\r\n"
    assert source_of(part * 3, tmp_path) == [b"a\r\n"] * 3


@pytest.mark.parametrize(
    ("begin", "command"),
    [
        (b"\x28\xb5\x2f\xfd", "zstd -dc"),
        (b"BZh9", "bzip2 -dc"),
        (b"PK\x03\x04", "unzip -p"),
        (b"\xfd7zXZ\0", "xz -dc"),
    ],
)
def test_a_file_that_is_packed_otherwise_is_named(begin: bytes, command: str, tmp_path: Path):
    with pytest.raises(Failure, match=command):
        source_of(begin + b"\0" * 20, tmp_path)


def test_an_endless_line_of_utf_16_costs_bounded_memory(tmp_path: Path):
    content = b"\xff\xfe" + ("x" * 300_000 + "\nnext\n").encode("utf-16-le")
    long, last = source_of(content, tmp_path)
    assert len(long) < 100_000
    assert last == b"next\n"


# Field cases


def visits(name: str, **options: str) -> list[tuple[str | None, str | None]]:
    if not (FIELD_CASES / name).exists():
        pytest.skip(f"{name} is not there")
    events: list[PageViewed] = []
    with open_source(str(FIELD_CASES / name)) as source:
        tally = import_access_log(
            source.lines(lambda _: None),
            lambda records: events.extend(_decoded(record.value) for record in records),
            NOW,
            tenant="default",
            **options,
        )
    assert tally.taken == tally.lines == len(events)
    return [(each.visitor_id, each.url) for each in events]


def _decoded(value: bytes | None) -> PageViewed:
    from schemas.decode import read_event

    event = read_event(value or b"")
    assert isinstance(event, PageViewed)
    return event


@pytest.mark.parametrize(
    ("name", "urls"),
    [
        ("two-addresses.log", ["/a", "/b"]),
        ("vhost-first.log", ["https://www.acme.example/v", "https://www.acme.example/v2"]),
        ("byte-order-mark.log", ["/1", "/2"]),
    ],
)
def test_a_field_case_is_one_visitor_with_two_pages(name: str, urls: list[str]):
    seen = visits(name)
    assert [url for _, url in seen] == urls
    assert len({visitor for visitor, _ in seen}) == 1


def test_events_saved_on_windows_are_imported():
    path = FIELD_CASES / "byte-order-mark.ndjson"
    if not path.exists():
        pytest.skip(f"{path.name} is not there")
    with open_source(str(path)) as source:
        tally = import_events(source.lines(lambda _: None), lambda _: None, NOW)
    assert (tally.lines, tally.taken) == (2, 2)
