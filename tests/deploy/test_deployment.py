"""Dockerfile and docker-compose.yml: valid, closed to strangers, and of one mind with the program."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from leadstream.settings import SettingError, Settings, read_settings

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SERVICES = yaml.safe_load(COMPOSE.read_text())["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "leadstream"}
GIVEN = {
    "POSTGRES_PASSWORD": "secret123",
    "METRICS_TOKEN": "metrics-token",
    "GRAFANA_PASSWORD": "secret456",
    "LEADSTREAM_WRITE_KEYS": "acme:write-key-1",
    "LEADSTREAM_API_TOKENS": "acme:read+write:api-token-1",
}
"""What somebody writes into .env."""

VARIABLE = re.compile(r"\$\{(\w+)(?:(:[-?])([^}]*))?\}")


def interpolated(text, given):
    """As compose fills in variables. Raises KeyError for one that is required and missing or empty."""

    def value(found):
        name, operator, default = found.groups()
        if given.get(name):
            return given[name]
        if operator == ":-":
            return default
        raise KeyError(name)

    return VARIABLE.sub(value, text)


def environment(service, given=GIVEN):
    said = SERVICES[service].get("environment", {})
    return {name: interpolated(str(value), given) for name, value in said.items()}


def command_line(service):
    """The arguments of `leadstream`."""
    if "entrypoint" in service:
        shell, option, script = service["entrypoint"]
        assert (shell, option) == ("sh", "-c")
        return script.split(" exec leadstream ")[1].split()
    return service["command"]


def instructions():
    joined = DOCKERFILE.replace("\\\n", " ")
    return [
        tuple(line.split(maxsplit=1))
        for line in joined.splitlines()
        if line.strip() and not line.startswith("#")
    ]


def test_the_compose_file_is_valid():
    subprocess.run(
        [
            Path(sys.executable).with_name("check-jsonschema"),
            "--builtin-schema",
            "vendor.compose-spec",
            COMPOSE,
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def test_nothing_starts_without_its_secrets_and_the_example_names_them_all():
    named = (ROOT / "deploy" / "env.example").read_text()
    assert re.findall(r"^(\w+)=", named, re.MULTILINE) == list(GIVEN)
    assert re.findall(r"^\w+=.+", named, re.MULTILINE) == [], (
        "an example that works is a secret that everybody knows"
    )
    interpolated(COMPOSE.read_text(), GIVEN)
    for name in GIVEN:
        with pytest.raises(KeyError, match=name):
            interpolated(COMPOSE.read_text(), GIVEN | {name: ""})
    assert {name for name, operator, _ in VARIABLE.findall(COMPOSE.read_text()) if operator != ":-"} == set(
        GIVEN
    )


@pytest.mark.parametrize("name", OURS)
def test_every_service_of_ours_has_settings_that_are_accepted(name, monkeypatch):
    for variable, value in environment(name).items():
        monkeypatch.setenv(variable, value)
    settings = read_settings()
    assert settings.kafka == "kafka:19092"
    if name in {"gateway", "projections"}:
        assert (
            settings.database_url.get_secret_value()
            == "postgresql://leadstream:secret123@postgres/leadstream"
        )


def test_a_gateway_without_keys_refuses_to_start(monkeypatch):
    for variable, value in environment("gateway").items():
        if variable not in {"LEADSTREAM_WRITE_KEYS", "LEADSTREAM_API_TOKENS"}:
            monkeypatch.setenv(variable, value)
    with pytest.raises(SettingError, match="LEADSTREAM_WRITE_KEYS"):
        read_settings()


def test_the_gateway_knows_the_token_of_prometheus_which_may_only_read(monkeypatch):
    for variable, value in environment("gateway").items():
        monkeypatch.setenv(variable, value)
    tokens = [token.get_secret_value() for token in read_settings().api_tokens]
    assert tokens == ["acme:read+write:api-token-1", "monitoring:read:metrics-token"]


def test_every_setting_that_is_named_exists():
    said = COMPOSE.read_text() + DOCKERFILE + (ROOT / "deploy" / "env.example").read_text()
    named = {name.lower() for name in re.findall(r"\bLEADSTREAM_(\w+)", said)}
    assert named - set(Settings.model_fields) == set()


@pytest.mark.parametrize("arguments", [*(command_line(each) for each in OURS.values())], ids=" ".join)
def test_every_command_that_is_named_exists(arguments):
    answer = subprocess.run(
        [Path(sys.executable).with_name("leadstream"), *arguments, "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr


def test_every_process_of_the_program_has_a_service():
    assert {command_line(service)[0] for service in OURS.values()} == {
        "topics",
        "gateway",
        "worker",
        "project",
        "delivery",
    }


def test_ports_are_open_to_this_machine_only():
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert len(ports) == 4
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_started_again_however_often_it_has_failed(name):
    """A number of times is counted over a container's life: after a year of hiccups nobody would come back."""
    assert SERVICES[name]["restart"] == ("on-failure" if name == "topics" else "unless-stopped")


@pytest.mark.parametrize("name", SERVICES)
def test_what_others_wait_for_is_checked(name):
    assert ("healthcheck" in SERVICES[name]) == (name != "topics"), "`topics` ends"
    for other, condition in SERVICES[name].get("depends_on", {}).items():
        expected = "service_completed_successfully" if other == "topics" else "service_healthy"
        assert condition["condition"] == expected


def test_what_is_kept_is_in_volumes_and_what_is_mounted_exists():
    whole = yaml.safe_load(COMPOSE.read_text())
    mounted = [volume.split(":") for service in SERVICES.values() for volume in service.get("volumes", ())]
    for source, *_ in mounted:
        assert (ROOT / source).is_dir() if source.startswith(".") else source in whole["volumes"]
    assert {source for source, *_ in mounted if not source.startswith(".")} == set(whole["volumes"])


def test_kafka_is_the_version_that_the_tests_run_on():
    pom = (ROOT / "deploy" / "kafka" / "pom.xml").read_text()
    (version,) = re.findall(r"<kafka.version>(.+)<", pom)
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{version}"


def test_kafka_is_set_up_as_the_broker_of_the_tests_is():
    """What replicates, what makes topics: a difference would show in production only."""
    properties = dict(
        line.split("=", 1)
        for line in (ROOT / "deploy" / "kafka" / "server.properties").read_text().splitlines()
        if "=" in line and not line.startswith("#")
    )
    said = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value
        for name, value in environment("kafka").items()
    }
    shared = {
        key
        for key in properties
        if key.endswith((".replication.factor", ".isr", ".enable", "replicas", "delay.ms"))
    }
    assert len(shared) == 9
    assert {key: said.get(key) for key in shared} == {key: properties[key] for key in shared}


def test_the_image_runs_as_nobody_special_and_comes_from_plain_names():
    said = instructions()
    assert [word for word, _ in said if word == "USER"] == ["USER"]
    assert ("USER", "leadstream") in said
    images = [rest.split()[0] for word, rest in said if word == "FROM"]
    assert all(re.fullmatch(r"python:3\.\d+\.\d+-slim", image) for image in images)
    known = {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "EXPOSE", "ENTRYPOINT", "CMD"}
    assert {word for word, _ in said} <= known
    assert all("://" not in rest for _, rest in said)
    plain = re.compile(r"[a-z0-9]+(/[a-z0-9]+)?(:[\w.]+)?")
    assert all(plain.fullmatch(service["image"]) for service in SERVICES.values())


@pytest.mark.parametrize("name", SERVICES)
def test_no_container_has_more_rights_than_it_needs(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "network_mode", "pid", "ipc", "devices"} & set(service)
    assert ("cap_add" in service) == (name == "postgres"), "only what begins as root needs any"


@pytest.mark.parametrize("name", OURS)
def test_what_ours_writes_goes_where_it_may(name):
    assert SERVICES[name]["tmpfs"] == ["/tmp"]
    assert environment(name)["LEADSTREAM_DATA_DIR"].startswith("/tmp/")


def test_images_are_named_by_exact_versions():
    images = [service["image"] for service in SERVICES.values() if service["image"] != "leadstream"]
    assert len(images) == 4
    assert all(re.fullmatch(r"[a-z/]+:v?\d+\.\d+(\.\d+)?", image) for image in images)


def test_the_image_has_a_python_that_the_package_takes():
    (version,) = set(re.findall(r"FROM python:3\.(\d+)", DOCKERFILE))
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert int(version) >= int(asked.removeprefix(">=3."))


def test_what_the_build_is_given_is_enough_for_the_whole_package(tmp_path):
    kept = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    source = tmp_path / "source"
    source.mkdir()
    for name in kept:
        if (ROOT / name).is_dir():
            left_out = shutil.ignore_patterns("__pycache__", "node_modules")
            shutil.copytree(ROOT / name, source / name, ignore=left_out)
        else:
            shutil.copy(ROOT / name, source)
    offline = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *offline, "--wheel-dir", tmp_path, source], check=True
    )
    (wheel,) = tmp_path.glob("leadstream-*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    assert set(packages["wheel"]["packages"]) <= set(kept)
    here = {
        path.relative_to(source).as_posix()
        for name in kept
        for path in (source / name).rglob("*")
        if path.is_file()
    }
    sources_of_pages = {name for name in here if name.startswith("dashboard/app/")}
    assert here - packed == sources_of_pages, "a wheel has the built pages, and not what they are built from"
    assert {"scoring/models/rules.toml", "projections/migrations/env.py", "schemas/asyncapi.json"} <= packed
    assert "dashboard/static/dist/index.html" in packed


def test_no_wheel_is_built_without_the_pages(tmp_path):
    for name in ("pyproject.toml", "README.md", "LICENSE", "dashboard/app/hatch_build.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (built.returncode, built.stderr.strip()) == (
        1,
        "The pages are not built: run `python dashboard/app/build.py` first.",
    )
