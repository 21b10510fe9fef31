"""The file of channels: what it may say, and what it is refused for."""

import tomllib
from pathlib import Path

import pytest

from delivery.channels.smtp_email import EmailChannel
from delivery.channels.webhook import WebhookChannel
from delivery.configuration import ConfigurationError, compile_configuration, read_configuration

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ENVIRONMENT = {
    "URL": "https://hooks.example.com/T0000/hunter2",
    "SECRET": SECRET,
    "PASSWORD": "hunter2",
    "TOKEN": "hunter2",
    "SHORT": "whsec_aHVudGVyMg==",
    "NO_URL": "hunter2",
    "CHAT": "slack://TokenA12345/TokenB12345/TokenC1234567890123456/",
}
WEBHOOK = '[channels.hook]\ntype = "webhook"\nurl = "env:URL"\nsecrets = ["env:SECRET"]\n'
EMAIL = (
    '[channels.email]\ntype = "email"\nserver = "smtp.example.com"\nsender = "Leads <leads@example.com>"\n'
)
SAMPLE_FILE = Path(__file__).parents[2] / "deploy" / "delivery.toml"


def compiled(text: str, folder: Path = Path()):
    return compile_configuration(text, ENVIRONMENT, folder)


def test_the_sample_is_complete_and_can_be_used():
    environment = {
        "SMTP_PASSWORD": "x",
        "SALES_CHAT_URL": ENVIRONMENT["CHAT"],
        "WEBHOOK_URL": ENVIRONMENT["URL"],
        "WEBHOOK_SECRET": SECRET,
        "HUBSPOT_TOKEN": "x",
    }
    configuration = compile_configuration(SAMPLE_FILE.read_text(encoding="utf-8"), environment)
    assert set(configuration.channels) == set(
        tomllib.loads(SAMPLE_FILE.read_text(encoding="utf-8"))["channels"]
    )
    assert configuration.limits.quiet()


def test_secrets_come_from_the_environment_or_a_file(tmp_path):
    (tmp_path / "secret").write_text(SECRET + "\n", encoding="utf-8")
    channel = compiled(WEBHOOK.replace("env:SECRET", "file:secret"), tmp_path).channels["hook"]
    assert isinstance(channel, WebhookChannel)
    assert channel.secrets[0].reveal() == SECRET
    assert channel.url.reveal() == ENVIRONMENT["URL"]


def test_a_template_may_be_in_files(tmp_path):
    (tmp_path / "hot.html").write_text("<p>{{ lead.name }}</p>", encoding="utf-8")
    text = '[templates.hot]\nsubject = "Hot"\ntext = "{{ reason }}"\nhtml_file = "hot.html"\n'
    assert compiled(text, tmp_path).templates["hot"].html == "<p>{{ lead.name }}</p>"


def test_a_channel_may_be_for_some_tenants_only():
    configuration = compiled(WEBHOOK + 'tenants = ["acme"]\n')
    assert configuration.channel("hook", "acme") is not None
    assert configuration.channel("hook", "other") is None


REFUSED = {
    "it is not TOML": "[channels",
    "channels.hook.url": '[channels.hook]\ntype = "webhook"\nurl = "https://a.example"\nsecrets = ["env:SECRET"]\n',
    "'MISSING' is not set": WEBHOOK.replace("env:URL", "env:MISSING"),
    "file 'none' cannot be read": WEBHOOK.replace("env:URL", "file:none"),
    "channels.hook: it is not an address": WEBHOOK.replace("env:URL", "env:NO_URL"),
    "number 1 is not whsec_": WEBHOOK.replace("env:SECRET", "env:SHORT"),
    "at least one is needed": WEBHOOK.replace('"env:SECRET"', ""),
    "channels.hook: object contains unknown field `adress`": WEBHOOK + 'adress = "x"\n',
    "'carrier-pigeon'": '[channels.hook]\ntype = "carrier-pigeon"\n',
    "channels.Hook": WEBHOOK.replace("channels.hook", "channels.Hook"),
    "channels.lead: this name": WEBHOOK.replace("channels.hook", "channels.lead"),
    "channels.email.port": EMAIL + "port = 70000\n",
    "sender: 'nobody' is not an address": EMAIL.replace("Leads <leads@example.com>", "nobody"),
    "recipients: 'x'": EMAIL + 'recipients = ["x"]\n',
    "username and password go together": EMAIL + 'username = "leads"\n',
    "a password is not sent in clear": EMAIL
    + 'username = "a"\npassword = "env:PASSWORD"\nsecurity = "none"\n',
    "ca_file": EMAIL + 'ca_file = "none.pem"\n',
    "templates.hot: 'leed' is undefined": '[templates.hot]\nsubject = "{{ leed.name }}"\ntext = "x"\n',
    "templates.hot: 'dict object' has no attribute 'nmae'": '[templates.hot]\nsubject = "{{ lead.nmae }}"\ntext = "x"\n',
    "Unexpected end of template": '[templates.hot]\nsubject = "a"\ntext = "{% if lead.name %}"\n',
    "html_file 'none' cannot be read": '[templates.hot]\nsubject = "a"\ntext = "x"\nhtml_file = "none"\n',
    "both text and text_file": '[templates.hot]\nsubject = "a"\ntext = "x"\ntext_file = "none"\n',
    "owners.5": '[owners.5]\nworking_hours = ["9 to 5"]\n',
    "Nowhere": '[owners.5]\ntime_zone = "Nowhere/Land"\n',
    "limits.quiet_hours": '[limits]\nquiet_hours = ["nights"]\n',
    "limits.attempts": "[limits]\nattempts = 0\n",
    "limits.longest_retry_seconds": "[limits]\nfirst_retry_seconds = 9\nlongest_retry_seconds = 3\n",
    "limits.lease_seconds": "[limits]\nlease_seconds = 3\n",
    "chanels: unknown": "[chanels.x]\n",
    "Apprise does not know": '[channels.chat]\ntype = "apprise"\nurl = "env:NO_URL"\n',
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_used_is_refused_by_its_place(reason):
    with pytest.raises(ConfigurationError) as refusal:
        compiled(REFUSED[reason])
    assert reason in str(refusal.value)
    assert "hunter2" not in str(refusal.value), "a secret"


def test_a_missing_file_is_named():
    with pytest.raises(ConfigurationError, match=r"none\.toml cannot be read \(No such file"):
        read_configuration(Path("none.toml"))


def test_no_secret_shows_in_the_configuration_itself():
    text = WEBHOOK + EMAIL + 'username = "leads"\npassword = "env:PASSWORD"\n'
    assert isinstance(compiled(text).channels["email"], EmailChannel)
    assert "hunter2" not in repr(compiled(text))
    assert SECRET not in repr(compiled(text))
