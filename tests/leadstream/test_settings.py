"""Settings: a wrong one names itself and the remedy, and none is undocumented."""

from pathlib import Path

import pytest

from leadstream.settings import SettingError, Settings, read_settings, settings_page, unknown_variables

DOCS = Path(__file__).parents[2] / "docs/settings.md"


@pytest.fixture(autouse=True)
def _no_settings_of_mine(monkeypatch: pytest.MonkeyPatch):
    for name in Settings.model_fields:
        monkeypatch.delenv(f"LEADSTREAM_{name.upper()}", raising=False)


def test_without_any_setting_the_house_is_open_to_this_machine_only():
    settings = read_settings()
    assert (settings.host, settings.port, settings.data_dir) == ("127.0.0.1", 8000, Path(".leadstream"))
    assert settings.access.is_open


def test_what_is_given_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LEADSTREAM_PORT", "9000")
    assert read_settings().port == 9000
    assert read_settings(port=9001).port == 9001
    assert read_settings(port=None).port == 9000


def test_an_empty_variable_is_no_setting(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LEADSTREAM_PORT", "")
    assert read_settings().port == 8000


def test_own_sites_are_hosts_however_they_are_written(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LEADSTREAM_OWN_SITES", "https://www.Acme.example/shop, acme.co.uk:443 bücher.example")
    assert read_settings().own_sites == ("acme.example", "acme.co.uk", "xn--bcher-kva.example")


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("port", "eighty", "1 to 65535"),
        ("port", "70000", "1 to 65535"),
        ("partitions", "0", "1 to 1024"),
        ("database_url", "mysql://h/d", "postgresql://"),
        ("trusted_proxies", "here", "10.0.0.0/8"),
        ("default_phone_region", "germany", "two capital letters"),
        ("own_sites", "acme.example,com", "'com' is no host of a site"),
        ("own_sites", "co.uk", "'co.uk' is no host of a site"),
        ("own_sites", "shop", "'shop' is no host of a site"),
        ("own_sites", "https://", "acme.example,acme-shop.example"),
        ("log_level", "loud", "debug, info, warning or error"),
        ("max_body_bytes", "-1", "1000 to 100000000"),
        ("public_url", "example.com", "http://HOST:PORT"),
        ("write_keys", "no-tenant", "TENANT:KEY"),
        ("api_tokens", "default:everything:12345678", "read+write"),
        ("kafka", "kafka-1", "HOST:PORT"),
        ("kafka", "kafka-1:9092,kafka-2:99999", "'kafka-2:99999' is not HOST:PORT"),
        ("kafka", "kafka-1:9092,", "HOST:PORT"),
        ("kafka_prefix", "a/b", "letters, digits, . _ -"),
        ("kafka_app", "-x", "letters, digits, . _ -"),
        ("kafka_security", "TLS", "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"),
        ("kafka_mechanism", "GSSAPI", "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"),
        ("kafka_ca_file", "/nowhere/ca.pem", "there is no such file"),
        ("kafka_replication", "0", "1 to 32"),
        ("buckets", "0", "1 to 64"),
        ("worker_id", "worker one", "letters, digits, . _ -"),
        ("worker_port", "0", "1 to 65535"),
    ],
)
def test_a_wrong_setting_names_itself_and_the_remedy_on_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, remedy: str
):
    monkeypatch.setenv(f"LEADSTREAM_{name.upper()}", value)
    with pytest.raises(SettingError) as refusal:
        read_settings()
    said = str(refusal.value)
    assert said.startswith(f"LEADSTREAM_{name.upper()}: ")
    assert remedy in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"kafka_security": "SASL_SSL"}, "LEADSTREAM_KAFKA_USERNAME is not set"),
        ({"kafka_security": "SASL_SSL", "kafka_username": "ann"}, "LEADSTREAM_KAFKA_PASSWORD is not set"),
        ({"kafka_username": "ann"}, "LEADSTREAM_KAFKA_USERNAME is set, and PLAINTEXT has no use for it"),
        ({"kafka_security": "SSL", "kafka_password": "secret"}, "LEADSTREAM_KAFKA_SECURITY=SASL_SSL"),
        ({"kafka_ca_file": __file__}, "LEADSTREAM_KAFKA_CA_FILE is set, and PLAINTEXT has no use for it"),
    ],
)
def test_settings_that_do_not_go_together_are_named_with_the_remedy(given: dict[str, str], complaint: str):
    with pytest.raises(SettingError) as refusal:
        read_settings(**given)
    assert complaint in str(refusal.value)
    assert "secret" not in str(refusal.value)


def test_kafka_is_on_this_machine_unless_it_is_said_where():
    assert read_settings().kafka is None
    assert read_settings().cluster.brokers == "127.0.0.1:9092"
    several = read_settings(kafka="kafka-1:9092, [::1]:9093", kafka_prefix="test-", kafka_app="next")
    assert several.cluster.client()["bootstrap_servers"] == ["kafka-1:9092", "[::1]:9093"]
    assert several.cluster.group == "test-next"


def test_the_password_reaches_the_client_and_nothing_else():
    settings = read_settings(
        kafka_security="SASL_PLAINTEXT", kafka_username="ann", kafka_password="tell-nobody"
    )
    assert settings.cluster.client()["sasl_plain_password"] == "tell-nobody"
    assert "tell-nobody" not in repr(settings) + repr(settings.cluster)


@pytest.mark.parametrize("name", ["write_keys", "api_tokens", "database_url"])
def test_a_secret_is_never_repeated(monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setenv(f"LEADSTREAM_{name.upper()}", "BAD.TENANT:everything:hunter2hunter2")
    with pytest.raises(SettingError) as refusal:
        read_settings()
    assert "hunter2" not in str(refusal.value)


def test_secrets_do_not_show_in_the_settings_themselves():
    settings = read_settings(write_keys="default:hunter2hunter2", database_url="postgresql://u:hunter2@h/d")
    assert "hunter2" not in repr(settings)
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == "postgresql://u:hunter2@h/d"


def test_keys_are_read_as_lists(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LEADSTREAM_WRITE_KEYS", "default:abcdefgh, acme:ijklmnop")
    assert sorted(read_settings().access.write_keys.values()) == ["acme", "default"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "leads.example"])
def test_without_keys_no_address_is_opened_to_others(host: str):
    with pytest.raises(SettingError, match=r"LEADSTREAM_HOST: .*LEADSTREAM_WRITE_KEYS=TENANT:KEY"):
        read_settings(host=host)
    assert read_settings(host=host, write_keys="default:abcdefgh").host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_this_machine_itself_needs_no_keys(host: str):
    assert read_settings(host=host).host == host


def test_a_misspelt_variable_is_pointed_out():
    [said] = unknown_variables({"LEADSTREAM_PROT": "1", "LEADSTREAM_PORT": "1", "PATH": "/bin"})
    assert said.startswith("LEADSTREAM_PROT is not a setting")
    assert "did you mean LEADSTREAM_PORT?" in said


def test_a_variable_like_no_setting_is_pointed_out_too():
    [said] = unknown_variables({"LEADSTREAM_XYZZY": "1"})
    assert "did you mean" not in said


def test_every_setting_is_described_in_a_sentence():
    for name, setting in Settings.model_fields.items():
        assert (setting.description or "").endswith("."), name


def test_the_page_of_settings_is_current():
    assert DOCS.read_text(encoding="utf-8") == settings_page(), (
        "run: .venv/bin/python -m leadstream.settings > docs/settings.md"
    )


def test_a_secret_that_is_public_is_no_api_token(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LEADSTREAM_WRITE_KEYS", "default:the-same-secret")
    monkeypatch.setenv("LEADSTREAM_API_TOKENS", "default:read:the-same-secret")
    with pytest.raises(
        SettingError, match=r"^LEADSTREAM_API_TOKENS: API token 1: it is a write key"
    ) as refusal:
        read_settings()
    assert "the-same-secret" not in str(refusal.value)
