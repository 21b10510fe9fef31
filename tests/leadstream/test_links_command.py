"""`leadstream links`, as a marketer uses it: no server, no store."""

import pytest
from command_line import leadstream_here

from gateway.door.signed_links import MailClickLink, QrLink, open_link, read_link_keys
from tests.gateway.code_pictures import text_of_png, text_of_svg

KEY = "one-key-of-at-least-24-characters"
SETTINGS = {"LEADSTREAM_LINK_KEYS": KEY, "LEADSTREAM_PUBLIC_URL": "https://go.acme.example"}
KEYS = read_link_keys([KEY])


def links(*arguments, **settings):
    done = leadstream_here("links", *arguments, **{**SETTINGS, **settings})
    return done.returncode, done.stdout.decode().strip(), done.stderr.decode().strip()


def test_a_code_is_printed_drawn_and_shown(tmp_path):
    svg, png = tmp_path / "stand-7.svg", tmp_path / "stand-7.png"
    target = "https://acme.example/expo"
    code, url, problems = links("qr", "stand-7", target, "--place", "Hall 3", "--svg", svg, "--png", png)
    assert (code, problems) == (0, "")
    assert text_of_svg(svg.read_text("utf-8")) == text_of_png(png.read_bytes()) == url
    link = open_link(url.removeprefix("https://go.acme.example/l/"), KEYS)
    assert link == QrLink(target=target, qr_id="stand-7", location="Hall 3")
    assert links("show", url)[1].splitlines() == [
        "records: qr_scanned",
        "tenant: default",
        f"target: {target}",
        "qr_id: stand-7",
        "place: Hall 3",
    ]


def test_a_catalogue_of_another_tenant():
    _, url, _ = links("catalog", "riverside", "https://acme.example/r.pdf", "--title", "R", "--tenant", "two")
    link = open_link(url.rpartition("/")[2], KEYS)
    assert (link.tenant, link.catalog_id, link.title) == ("two", "riverside", "R")


def test_a_code_that_opens_a_chat():
    assert links("qr", "stand-7", "--telegram", "acme_realty_bot") == (
        0,
        "https://t.me/acme_realty_bot?start=qr_stand-7",
        "",
    )


def test_a_mail_is_printed_with_measured_links(tmp_path):
    mail = tmp_path / "mail.html"
    mail.write_text('<p>Grüße</p><a href="https://acme.example/demo">Demo</a>', encoding="utf-8")
    code, html, status = links("email", mail, "--lead", "ada", "--message", "<1@x>")
    assert code == 0
    assert html.startswith('<p>Grüße</p><a href="https://go.acme.example/l/')
    assert status == "1 links and the picture are measured, for the lead ada."
    token = html.partition("/l/")[2].partition('"')[0]
    assert open_link(token, KEYS) == MailClickLink(
        lead_id="ada", message_id="<1@x>", target="https://acme.example/demo"
    )


def test_an_address_that_only_this_machine_reaches_is_pointed_out():
    code, url, problems = links("qr", "a", "https://acme.example", LEADSTREAM_PUBLIC_URL="")
    assert (code, url[:23]) == (0, "http://127.0.0.1:8000/l")
    assert "LEADSTREAM_PUBLIC_URL" in problems


@pytest.mark.parametrize(
    ("arguments", "settings", "problem"),
    [
        (("qr", "a", "tel:+1"), {}, "Error: target: must begin with http:// or https://"),
        (("qr", "a"), {}, "Error: target: missing"),
        (("qr", "a", "https://acme.example", "--tenant", "*"), {}, "Error: --tenant: a link belongs to one tenant."),
        (("qr", "a", "https://acme.example", "--png", "/nowhere/a.png"), {}, "Error: /nowhere/a.png: No such file"),
        (("qr", "a", "https://acme.example/" + "a" * 600, "--svg", "x.svg"), {}, "Error: The address has more than 600"),
        (("show", "https://go.acme.example/l/changed"), {}, "Error: This is no link under LEADSTREAM_LINK_KEYS"),
        (("qr", "a", "https://acme.example"), {"LEADSTREAM_LINK_KEYS": ""}, "Error: LEADSTREAM_LINK_KEYS is not set"),
        (("qr", "a", "https://acme.example"), {"LEADSTREAM_LINK_KEYS": "short-secret"}, "Error: LEADSTREAM_LINK_KEYS: link key 1"),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_by_one_line_with_the_remedy(arguments, settings, problem):
    code, printed, error = links(*arguments, **settings)
    assert code in {1, 2}
    assert printed == ""
    assert error.startswith(problem)
    assert "short-secret" not in error
