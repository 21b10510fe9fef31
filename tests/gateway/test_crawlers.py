"""Which user agents are a person's, on the web and in mails. The texts are those of installed packages and of the
mail services' own notices; none is taken from the program.
"""

import json
import time

import pytest
from agent_cases import bots, people
from crawleruseragents import CRAWLER_USER_AGENTS_DATA
from hypothesis import given
from hypothesis import strategies as st

from gateway.door.crawlers import LONGEST_CRAWLER_NAME, crawler_of, mail_crawler_of
from gateway.door.devices import device_of
from gateway.door.pattern_list import PatternList

GMAIL_PROXY = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
YAHOO_PROXY = "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html"
GMAIL_PREFETCH = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/42.0.2311.135 "
    "Safari/537.36 Edge/12.246 Mozilla/5.0"
)
SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 16_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/16.5 Mobile/15E148 Safari/604.1"
)


@pytest.mark.slow
def test_at_least_98_percent_of_bots_are_flagged():
    agents = [case["user_agent"] for case in bots()]
    assert len(agents) > 1300
    assert sum(crawler_of(each) is not None for each in agents) >= 0.98 * len(agents)


def test_every_security_scanner_is_flagged():
    scanners = [case["user_agent"] for case in bots() if case["bot"].get("category") == "Security Checker"]
    assert len(scanners) > 33
    assert [each for each in scanners if crawler_of(each) is None] == []


@pytest.mark.slow
def test_at_least_98_percent_of_another_lists_instances_are_flagged():
    instances = [each for entry in CRAWLER_USER_AGENTS_DATA for each in entry.get("instances", ())]
    assert len(instances) > 2000
    assert sum(crawler_of(each) is not None for each in instances) >= 0.98 * len(instances)


@pytest.mark.slow
def test_at_most_two_in_a_thousand_people_are_called_bots():
    agents = [case["user_agent"] for case in people()]
    assert len(agents) > 30_000
    flagged = [each for each in agents if crawler_of(each) is not None]
    assert len(flagged) <= 0.002 * len(agents), flagged


@pytest.mark.parametrize(
    "user_agent",
    [
        SAFARI,
        (
            "Mozilla/5.0 (Linux; Android 8.0.0; CUBOT_P20) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/70.0.3538.110 "
            "Mobile Safari/537.36"
        ),
        (
            "Mozilla/5.0 (Linux; Android 9; KINGBOT SPIDER Build/P) AppleWebKit/537.36 (KHTML, like Gecko) "
            "Chrome/90.0.0.0 Mobile Safari/537.36"
        ),
        "Dalvik/2.1.0 (Linux; U; Android 9; Cubot X19 Build/PPR1)",
        (
            "[FBAN/FB4A;FBAV/567.1.0.52.74;FBDM/{density=3.0};FBLC/nl_NL;FBMF/samsung;FBPN/com.facebook.katana;"
            "FBDV/SM-S921B;FBSV/16;FBCA/arm64-v8a:;]"
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 16_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
            "Mobile/15E148 [Pinterest/iOS]"
        ),
        (
            "Mozilla/5.0 (Linux; Android 16; SM-F966N; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 "
            "Chrome/145.0.7632.120 Mobile Safari/537.36 Viber/27.4.0.0"
        ),
        "Microsoft Office/16.0 (Windows NT 10.0; Microsoft Word 16.0.10730; Pro)",
        "",
    ],
)
def test_a_phone_or_app_whose_name_sounds_like_a_bot_is_a_persons(user_agent):
    assert crawler_of(user_agent) is None


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "Googlebot"),
        ("WhatsApp/2.23.20.0 A", "WhatsApp"),
        ("curl/8.1", "curl"),
        (
            (
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/120.0.0.0 "
                "Safari/537.36"
            ),
            "HeadlessChrome",
        ),
        (
            "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 Chrome/130 Mobile Safari/537.36 Playwright/1.5",
            "Playwright",
        ),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/130 Safari/537.36 Puppeteer", "Puppeteer"),
        ("Mozilla/5.0 (Windows NT 10.0) Selenium/4.0", "Selenium"),
        (
            (
                "Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) AppleWebKit/537.36 (KHTML, like Gecko) "
                "Chrome/41.0.2272.96 Mobile Safari/537.36 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
            ),
            "Googlebot",
        ),
    ],
)
def test_a_crawler_is_named_as_it_names_itself(user_agent, name):
    assert crawler_of(user_agent) == name


@pytest.mark.parametrize(
    "user_agent",
    [
        "Deno/1.45",
        "Bun/1.1.20",
        "Java-http-client/21.0.1",
        "insomnia/9.3.2",
        "feroxbuster/2.10.1",
        "Mozilla/5.0 (Windows NT; Windows NT 10.0; en-US) WindowsPowerShell/5.1.22621.2506",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessEdg/126.0 Safari/537.36",
    ],
)
def test_an_http_library_or_a_headless_browser_is_no_person(user_agent):
    assert crawler_of(user_agent) is not None


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        ("Artillery (https://artillery.io)", "artillery.io"),
        ("kakaotalk-scrap/1.0; +https://devtalk.kakao.com/t/scrap/33984", "devtalk.kakao.com"),
        (
            "Mozilla/5.0 (X11; Linux x86_64) Chrome/126 Safari/537.36 (+https://zoltar.example/why)",
            "zoltar.example",
        ),
        ("NetNewsWire (macOS; RSS Reader; https://ranchero.com/netnewswire/)", None),
        (
            "Mozilla/4.0 (compatible; MSIE 7.0; Embedded Web Browser from: http://bsalsa.com/; .NET CLR 1.1)",
            None,
        ),
        ("AppleCoreMedia/1.0.0.18J383 (Apple TV; U; CPU OS 14_0 like Mac OS X; en_us)", None),
    ],
)
def test_what_no_list_names_is_a_crawler_if_it_gives_the_address_of_its_operator(user_agent, name):
    assert crawler_of(user_agent) == name


@pytest.mark.parametrize(
    "user_agent",
    [
        GMAIL_PROXY,
        YAHOO_PROXY,
        "Mozilla/5.0 (Windows NT 10.0) OutlookImageProxy/1.0",
        "Mozilla/4.0 (compatible; ms-office; MSOffice 16)",
        "Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 10.0; WOW64; Trident/7.0; Microsoft Outlook 16.0.4266; ms-office)",
        "Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.10730; Pro)",
        "Outlook-iOS/709.2226530.prod.iphone (3.24.1)",
        "Outlook-Android/2.0",
        "Mozilla/5.0 (X11; Linux x86_64; rv:102.0) Gecko/20100101 Thunderbird/102.4.2",
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)",
        SAFARI,
    ],
)
def test_a_mail_that_a_person_opens_is_opened(user_agent):
    assert mail_crawler_of(user_agent, opened=True) is None


@pytest.mark.parametrize(
    "user_agent",
    [
        "Mozilla/5.0",
        " Mozilla/5.0 ",
        GMAIL_PREFETCH,
        GMAIL_PREFETCH.removesuffix("Mozilla/5.0") + "Gmail-content-sampling",
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "curl/8.1",
    ],
)
def test_a_mail_that_a_program_fetches_before_is_not_opened(user_agent):
    assert mail_crawler_of(user_agent, opened=True) is not None


@pytest.mark.parametrize("opened", [True, False])
@pytest.mark.parametrize(
    "user_agent",
    [
        "Barracuda Sentinel (EE)",
        GMAIL_PREFETCH,
        "Mozilla/5.0 (compatible; Proofpoint URL Defense)",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Mimecast Link Scanner",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 SafeLinks/1.0",
        "FortiSandbox",
        "Bitdefender Email",
        "Mozilla/5.0 (Windows NT 6.1; WOW64) AppleWebKit/534+ (KHTML, like Gecko) BingPreview/1.0b",
    ],
)
def test_a_security_gateway_or_prefetcher_neither_opens_nor_clicks(user_agent, opened):
    assert mail_crawler_of(user_agent, opened=opened) is not None


@pytest.mark.parametrize("proxy", [GMAIL_PROXY, YAHOO_PROXY, "ProtonMail Image Proxy", "HEY Image Proxy/1.0"])
def test_a_picture_proxy_opens_a_mail_and_follows_no_link(proxy):
    assert mail_crawler_of(proxy, opened=True) is None
    assert mail_crawler_of(proxy, opened=False) is not None


@pytest.mark.parametrize(
    "user_agent",
    [
        "a" * 1024,
        "Mozilla/5.0 " + "-" * 1012,
        "0(" * 512,
        "\u202e" * 1024,
        "cubot " * 170,
        "cubot-" * 170,
        "zealot " * 140,
        "agent" + "_" * 1019,
        "MZ-" * 341,
        "electron-fetch" * 73,
        "(Android 9" * 100,
        "SM-" * 341,
    ],
)
def test_a_hostile_user_agent_costs_milliseconds(user_agent):
    crawler_of("warm"), device_of("warm")
    started = time.process_time()
    for number in range(10):
        text = f"{number}{user_agent}"
        crawler_of(text), device_of(text), mail_crawler_of(text, opened=True)
    assert time.process_time() - started < 0.8


@given(st.text(max_size=3000))
def test_any_text_has_a_verdict_and_a_name_of_bounded_length(text):
    for name in (crawler_of(text), mail_crawler_of(text, opened=True), mail_crawler_of(text, opened=False)):
        assert name is None or 0 < len(name) <= LONGEST_CRAWLER_NAME
    json.dumps(device_of(text).type)


def test_an_expression_with_lookarounds_matches_where_they_allow_it():
    patterns = PatternList(["daum(?!(?:apps|[)]device))", "(?<!cu|hu)bot", "plain"])
    assert list(patterns.matching("Daum plain bot")) == [0, 1, 2]
    assert list(patterns.matching("DaumApps cubot")) == []
    assert list(patterns.matching("daum)device hubot robot")) == [1]
    assert patterns.span(1, "a CuBot and a Robot") == (16, 19)
