"""The pages of experiments and flows as a marketer uses them, on one server."""

import json

import pytest
from test_pages_in_chromium import TOKEN, press, shown, walk

from tests.leadstream.command_line import serving
from tests.producers.chromium import Tab, chromium, until

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

HOSTILE = "<img src=x onerror=alert(1)>"
EXPERIMENTS = {
    "split": """
name = "split"
about = "A split that loses leads."
[variants.A]
[variants.B]
[goals.demo]
event = "demo_requested"
""",
    "ended": f"""
name = "ended"
about = "{HOSTILE} مرحبا {"w" * 300}"
status = "stopped"
winner = "B"
[variants.A]
config = {{ text = "{HOSTILE}" }}
[variants.B]
[goals.demo]
event = "demo_requested"
""",
}


def exposed(experiment: str, variant: str, *, leads: int, converted: int = 0) -> list[dict]:
    """So many visitors, of whom so many asked for a demo."""
    visitors = [f"{experiment}-{variant}-{n}" for n in range(leads)]
    seen = [
        {"type": "experiment_exposed", "visitor_id": each, "event_id": "x", "experiment": experiment, "variant": variant}
        for each in visitors
    ]  # fmt: skip
    return seen + [
        {"type": "demo_requested", "visitor_id": each, "event_id": "d"} for each in visitors[:converted]
    ]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """(browser, server, address), with what happened in the experiments."""
    folder = tmp_path_factory.mktemp("experiments")
    for name, text in EXPERIMENTS.items():
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    place = tmp_path_factory.mktemp("site")
    settings = {
        "LEADSTREAM_API_TOKENS": f"default:read+write+author:{TOKEN}",
        "LEADSTREAM_EXPERIMENTS": str(folder),
    }
    with chromium(place / "profile") as browser, serving(place / "store", **settings) as server:
        server.client.headers["Authorization"] = f"Bearer {TOKEN}"
        events = [
            *exposed("greeting_message", "A", leads=80, converted=48),
            *exposed("greeting_message", "B", leads=70, converted=56),
            *exposed("split", "A", leads=30),
            *exposed("split", "B", leads=5),
            {"type": "profile_updated", "visitor_id": "greeting_message-B-0", "lead_id": "ada", "event_id": "n",
             "fields": {"name": f"Ada {HOSTILE}"}},
        ]  # fmt: skip
        sent = server.client.post("/v1/events?wait=10", json=events)
        assert sent.status_code == 200, sent.text
        yield browser, server, str(server.client.base_url).rstrip("/")


SIGNED_IN = f"sessionStorage.setItem('token', '{TOKEN}'); window.confirm = () => true;"
CSV = """
new Promise((resolve) => {
  const original = URL.createObjectURL;
  URL.createObjectURL = (blob) => { blob.text().then(resolve); return original(new Blob([])); };
  [...document.querySelectorAll("button")].find((each) => each.textContent === "Download CSV").click();
})
"""


def test_a_marketer_reads_what_an_experiment_has_shown_and_whose_numbers_those_are(site):
    browser, server, address = site
    with walk(browser, address, "experiments") as tab:
        tab.before_pages(SIGNED_IN)
        tab.go(f"{address}/")
        until(lambda: "Experiments" in shown(tab, ".pages a"), "it is in the bar")
        tab.click("a[href='/experiments']")
        until(lambda: "150 leads." in shown(tab, ".model-list b"), "how many took part")
        assert [each.split()[0] for each in shown(tab, ".of-status")] == ["Running", "Ended"]
        until(lambda: "not spread as the weights require" in str(shown(tab, ".wrong")), "a split to distrust")

    with walk(browser, address, "an experiment") as tab:
        tab.before_pages(SIGNED_IN)
        tab.go(f"{address}/experiments/greeting_message")
        # Newcombe 1998, example (a): 56 of 70 beside 48 of 80 is 0.0524 to 0.3339 more.
        until(
            lambda: shown(tab, ".conclusions b") == ["B converts 5 to 33 points more than A."],
            "in one sentence",
        )
        assert tab.run("document.querySelectorAll('.rate-intervals circle').length") == 2
        row_of_b = tab.run(
            "[...document.querySelectorAll('tbody tr:last-child > *')].map((each) => each.textContent)"
        )
        # Wilson 1927 for 56 of 70 by hand: 0.6919 to 0.8767
        assert row_of_b[:7] == ["B", "50 %", "70", "56", "80 %", "69.2 %", "87.7 %"], row_of_b
        results = server.client.get("/api/experiments/greeting_message").json()["results"]
        taken = tab.run(CSV).lstrip("\ufeff").split("\r\n")
        compared = results["variants"][1]["goals"]["demo_request"]["against_control"]
        assert [float(each) for each in taken[2].split(",")[7:]] == pytest.approx(
            [compared["difference"], *compared["interval"], compared["p"]]
        )
        tab.click("tbody tr:last-child a")
        until(lambda: "(70)" in str(shown(tab, "#variant-leads")), "from a variant to its leads")
        tab.click("section[aria-labelledby=variant-leads] input")
        until(lambda: "(56)" in str(shown(tab, "#variant-leads")), "those that reached the goal")
        assert tab.run("location.search") == "?leads=B&reached=yes"
        until(lambda: any("onerror" in each for each in shown(tab, "tbody a")), "what somebody typed is text")

    with walk(browser, address, "a split that is no chance, at night", scheme="dark") as tab:
        tab.before_pages(SIGNED_IN)
        tab.go(f"{address}/experiments/split")
        # 12.5 of 17.5 squared, twice: chi-square 17.857; its tail with one degree of freedom is 0.0000239
        until(lambda: "chi-square 17.86" in str(shown(tab, "[role=alert]")), "the warning says why")
        assert "A: 30 leads, 17.5 expected" in shown(tab, "[role=alert] li")
        assert "cannot be compared" in shown(tab, ".conclusions b")[0]

    with walk(
        browser, address, "an ended experiment, on a phone, in Persian", width=390, scheme="dark"
    ) as tab:
        tab.before_pages(SIGNED_IN)
        tab.go(f"{address}/experiments/ended?lang=fa")
        until(lambda: shown(tab, ".model-head .band"), "the experiment that has ended")
        assert "onerror" in str(shown(tab, "bdi")), "what its author wrote is text"
        tab.go(f"{address}/experiments/none?lang=fa")
        until(lambda: shown(tab, "[role=alert] h2"), "there is no such experiment")
        tab.go(f"{address}/experiments/greeting_message?lang=fa&goal=contact_shared")
        until(lambda: shown(tab, ".conclusions b"), "its other goal")


def typed(tab: Tab, selector: str, value: str, event: str = "input") -> None:
    """As somebody types it: the page hears of it."""
    tab.run(
        f"(() => {{ const field = document.querySelector({json.dumps(selector)}); const kind = field instanceof HTMLSelectElement"
        " ? HTMLSelectElement : field instanceof HTMLTextAreaElement ? HTMLTextAreaElement : HTMLInputElement;"
        f" Object.getOwnPropertyDescriptor(kind.prototype, 'value').set.call(field, {json.dumps(value)});"
        f" field.dispatchEvent(new Event({json.dumps(event)}, {{ bubbles: true }})); }})()"
    )


def exposures(server) -> int:
    return server.client.get("/api/experiments/button_color").json()["results"]["exposed"]


def ask_variant(server, visitor: str) -> dict:
    answer = server.client.post("/api/ab-test/variant/button_color", json={"session_id": visitor})
    return answer.json() if answer.status_code == 200 else {}


def test_a_marketer_writes_an_experiment_starts_it_sees_exposures_and_stops_it(site):
    browser, server, address = site
    with walk(browser, address, "a new experiment") as tab:
        tab.before_pages(SIGNED_IN)
        tab.go(f"{address}/experiments")
        until(lambda: shown(tab, "#new-experiment"), "a place for a new one")
        typed(tab, "section[aria-labelledby=new-experiment] input", "split")
        until(lambda: "already" in str(shown(tab, "#name-hint")), "the name is taken")
        typed(tab, "section[aria-labelledby=new-experiment] input", "button_color")
        tab.click("section[aria-labelledby=new-experiment] button")
        until(lambda: shown(tab, ".variant-form legend"), "the form of a new one")
        assert shown(tab, ".variant-form legend")[:2] == ["A · control", "B"]
        typed(tab, "[id='variants.1.weight']", "60", "change")
        until(
            lambda: "sum to 1.1" in str(shown(tab, "[id='wrong-variants.B.weight']")),
            "the mistake at its field",
        )
        assert (
            tab.run("document.querySelector('[id=\"variants.1.weight\"]').getAttribute('aria-invalid')")
            == "true"
        )
        typed(tab, "[id='variants.0.weight']", "40", "change")
        until(lambda: not shown(tab, "[id='wrong-variants.B.weight']"), "it is corrected")
        typed(tab, "[id='variants.1.config']", '{"color": "red"}')
        typed(tab, "#publish-note", "The first try")
        until(
            lambda: tab.run("!document.querySelector('section[aria-labelledby=publish] button').disabled"),
            "it may be published",
        )
        tab.click("section[aria-labelledby=publish] button.primary")
        until(lambda: shown(tab, ".start-stop, .choices button.primary"), "it is there")
        until(lambda: "not started" in str(shown(tab, ".model-head .band")), "and a draft")
    text = server.client.get("/api/experiments/button_color").json()["text"]
    assert 'config = { color = "red" }' in text

    with walk(browser, address, "an experiment that is started") as tab:
        tab.before_pages(SIGNED_IN)
        tab.go(f"{address}/experiments/button_color")
        until(lambda: "Start" in shown(tab, ".choices button.primary"), "it may be started")
        press_button = "[...document.querySelectorAll('.choices button')].find((each) => each.textContent === '{}').focus()"
        tab.run(press_button.format("Start"))
        press(tab, "Enter")
        until(lambda: shown(tab, "#start-note"), "the reason is asked for")
        typed(tab, "#start-note", "The texts are approved")
        tab.click(".start-stop button.primary")
        until(lambda: shown(tab, ".model-head .band") == ["running"], "it runs")
        until(lambda: ask_variant(server, "v-0").get("in_experiment"), "visitors are assigned")
        for n in range(1, 20):
            ask_variant(server, f"v-{n}")
        until(lambda: exposures(server) == 20, "exposures are counted")
        tab.go(f"{address}/experiments/button_color")
        until(lambda: "20" in shown(tab, ".figures dd"), "the page counts them")
        tab.run("document.querySelector('section[aria-labelledby=try] select').focus()")
        typed(tab, "section[aria-labelledby=try] select", "visitor_id", "change")
        typed(tab, "section[aria-labelledby=try] input", "v-0")
        tab.click("section[aria-labelledby=try] form button")
        until(
            lambda: shown(tab, ".tried b") == [ask_variant(server, "v-0")["variant"]],
            "the assignment as it is",
        )

    with walk(
        browser, address, "a running experiment is edited, on a phone, in Persian", width=390, scheme="dark"
    ) as tab:
        tab.before_pages(SIGNED_IN)
        tab.go(f"{address}/experiments/button_color?view=edit&lang=fa")
        until(lambda: shown(tab, ".variant-form"), "its form")
        assert tab.run("document.querySelector('[id=\"variants.1.weight\"]').disabled"), (
            "nobody is to be moved"
        )
        assert not tab.run("document.querySelector('#coverage').disabled")

    with walk(browser, address, "an experiment that is stopped") as tab:
        tab.before_pages(SIGNED_IN)
        tab.go(f"{address}/experiments/button_color")
        until(lambda: "Stop" in shown(tab, ".choices button"), "it may be stopped")
        tab.click(".choices button")
        typed(tab, "#winner", "B", "change")
        typed(tab, "#start-note", "B sells more")
        tab.click(".start-stop button.primary")
        until(lambda: "Everybody gets B now." in str(shown(tab, ".model-head")), "B has won")
        until(
            lambda: (
                ask_variant(server, "late")
                == {
                    "test_name": "button_color",
                    "variant": "B",
                    "config": {"color": "red"},
                    "in_experiment": False,
                }
            ),
            "everybody gets it",
        )
        assert exposures(server) == 20
        tab.go(f"{address}/experiments/button_color?view=versions")
        until(lambda: len(shown(tab, "table.versions tbody tr")) == 3, "every version")
        assert ["stopped" in each for each in shown(tab, "table.versions tbody tr")] == [True, False, False]


CHAT = "document.querySelector('iframe').contentDocument.body.lastElementChild.shadowRoot"


def said_in_preview(tab: Tab) -> list[str]:
    return tab.run(
        f"(() => {{ try {{ return [...{CHAT}.querySelectorAll('.log p')].map((each) => each.lastChild.textContent); }}"
        "catch { return []; } })()"
    )


def press_in_preview(tab: Tab, name: str) -> bool:
    return tab.run(
        f"(() => {{ const button = [...{CHAT}.querySelectorAll('.ask button')].find((each) => each.textContent === {json.dumps(name)});"
        "button?.click(); return !!button; })()"
    )


def fill(tab: Tab, name: str, content: str) -> None:
    tab.run(f"document.getElementById({json.dumps(name)}).select()")
    tab.call("Input.insertText", text=content)


def test_a_marketer_edits_previews_publishes_and_rolls_back_what_the_chat_asks(site):
    browser, server, address = site
    asked = server.client.get("/api/questions").json()
    with walk(browser, address, "flows") as tab:
        tab.before_pages(SIGNED_IN)
        tab.go(f"{address}/flows")
        until(lambda: shown(tab, ".asked li")[:1] == [asked["questions"][0]["text"]], "what the chat asks")

    with walk(browser, address, "a flow") as tab:
        tab.before_pages(SIGNED_IN)
        tab.go(f"{address}/flows/chatbot")
        until(lambda: asked["questions"][0]["text"] in said_in_preview(tab), "the real chat runs the flow")
        tab.click(".questions .rule")
        until(lambda: tab.run("location.search") == "?question=1", "the open question is in the address")
        # 5 points for an answer, 5 more for one above ten characters (requirement 2)
        until(lambda: shown(tab, ".answers li > span") == ["+5", "+10", "+10", "+5", "+5"], "what they score")
        fill(tab, "questions.0.text en", "")
        tab.run("document.getElementById('questions.0.text en').value = ''")
        tab.run(
            "document.getElementById('questions.0.text en').dispatchEvent(new Event('input', { bubbles: true }))"
        )
        until(
            lambda: "is a text of one line" in str(shown(tab, "[id='wrong-questions.0.text']")),
            "the mistake, at its place",
        )
        fill(tab, "questions.0.text en", "What do you sell?")
        until(lambda: "What do you sell?" in said_in_preview(tab), "the preview follows")
        assert press_in_preview(tab, "Retail Store")
        until(lambda: asked["questions"][1]["text"] in said_in_preview(tab), "the chat goes on")
        # 5 for the session, 5 for the answer, 5 quick, 5 for more than ten characters
        until(lambda: "score 20" in str(shown(tab, ".preview [role=status] b")), "what it would score")
        assert server.client.get("/api/analytics/leads").json()["total_sessions"] == 0, "nothing is recorded"

        fill(tab, "publish-reason", "shorter")
        tab.click(".publish button[type=submit]")
        until(
            lambda: server.client.get("/api/questions").json()["questions"][0]["text"] == "What do you sell?",
            "published",
        )
        until(lambda: shown(tab, ".changed") == [], "nothing is unpublished")

    with walk(browser, address, "the versions of a flow") as tab:
        tab.before_pages(SIGNED_IN)
        tab.go(f"{address}/flows/chatbot?view=versions")
        until(lambda: "shorter" in str(shown(tab, ".versions td")), "who published what, and why")
        tab.run(
            "[...document.querySelectorAll('.versions button')].find((each) => each.textContent.startsWith('Roll back')).click()"
        )
        until(lambda: tab.run("!!document.querySelector('.roll-back input')"), "the reason is asked for")
        tab.run("document.querySelector('.roll-back input').focus()")
        tab.call("Input.insertText", text="as it was")
        tab.click(".roll-back .primary")
        until(lambda: server.client.get("/api/questions").json() == asked, "the chat asks as before")

    with walk(browser, address, "a flow on a phone, at night, in Persian", width=390, scheme="dark") as tab:
        tab.before_pages(SIGNED_IN)
        tab.go(f"{address}/flows/chatbot?lang=fa")
        until(lambda: asked["questions"][0]["text"] in said_in_preview(tab), "the chat")
        tab.run("document.getElementById('new-language').focus()")
        tab.call("Input.insertText", text="fa")
        press(tab, "Enter")
        until(lambda: tab.run("!!document.getElementById('thanks fa')"), "each text is there twice")
        fill(tab, "thanks fa", HOSTILE + "w" * 300)
        until(lambda: "onerror" in tab.run("document.getElementById('thanks fa').value"), "it is text")
