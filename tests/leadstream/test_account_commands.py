"""Keys and people at the command line, and the rows that commands leave in the audit log."""

import io

import psycopg
import pytest
from command_line import leadstream_here
from psycopg.rows import dict_row

from gateway.access import digest_of_secret
from gateway.accounts.passwords import verify_password
from leadstream.operations.accounts import command_text, recorded_command

SECRET = "postgresql://u:hunter2@h/d"


@pytest.fixture
def command(read_models_url, tmp_path):
    def run(*arguments, code=0):
        done = leadstream_here(
            *arguments,
            LEADSTREAM_DATABASE_URL=read_models_url,
            LEADSTREAM_DATA_DIR=str(tmp_path),
        )
        assert done.returncode == code, done.stderr.decode()
        assert b"Traceback" not in done.stderr
        return done.stdout.decode(), done.stderr.decode()

    return run


@pytest.mark.postgres
def test_a_key_from_its_making_to_its_end(command, read_models_url):
    secret, told = command("keys", "create", "web site", "--scopes", "read+write", "--days", 30)
    assert "This is the only time that it is shown" in told
    secret = secret.strip()
    key_id = secret.split("_")[2]
    listed, _ = command("keys", "list")
    assert listed.splitlines()[1].split("\t")[:4] == [key_id, "default", "web site", "read+write"]
    assert secret not in listed
    successor, told = command("keys", "rotate", key_id, "--overlap", 0)
    assert f"The old key {key_id} ends now." in told
    assert "is revoked" in command("keys", "revoke", successor.split("_")[2])[0]
    assert "No keys were made" in command("keys", "list")[1]
    assert len(command("keys", "list", "--ended")[0].splitlines()) == 3
    for arguments, remedy in [
        (("keys", "revoke", "0" * 12), "no key has this id"),
        (("keys", "create", "x", "--scopes", "everything"), "scopes are collect, read, write, author, admin"),
        (("keys", "rotate", key_id), "this key has ended"),
    ]:
        assert remedy in command(*arguments, code=1)[1]
    with psycopg.connect(read_models_url, row_factory=dict_row) as connection:
        rows = connection.execute("select digest from api_keys").fetchall()
        assert digest_of_secret(secret) in [row["digest"] for row in rows]
        log = connection.execute("select actor, action from audit_log order by entry_id").fetchall()
    assert [row["action"] for row in log] == ["key.create", "key.create", "key.rotate", "key.revoke"]
    assert all(row["actor"].startswith("cli:") for row in log)


@pytest.mark.postgres
def test_a_command_that_changes_a_store_leaves_a_row_also_if_it_fails(read_models_url, monkeypatch):
    monkeypatch.setattr("sys.argv", ["leadstream", "publish", "x.toml", "--note", "for ada@example.com"])
    with recorded_command(read_models_url):
        pass
    with pytest.raises(ZeroDivisionError), recorded_command(read_models_url):
        _ = 1 / 0
    with psycopg.connect(read_models_url, row_factory=dict_row) as connection:
        rows = connection.execute(
            "select action, outcome, tenant from audit_log order by entry_id"
        ).fetchall()
    action = "leadstream publish x.toml --note for a***@example.com"
    assert rows == [{"action": action, "outcome": outcome, "tenant": "*"} for outcome in ("done", "failed")]


def test_a_command_is_shown_without_secrets():
    assert command_text(["publish", "x.toml", "--database-url", SECRET, "--note", "n"]) == (
        "leadstream publish x.toml --database-url *** --note n"
    )
    assert command_text([f"--database-url={SECRET}"]) == "leadstream --database-url=***"


@pytest.mark.postgres
def test_a_person_from_entering_to_disabling(command, read_models_url, monkeypatch):
    def typed(text):
        monkeypatch.setattr("sys.stdin", io.StringIO(text))

    def stored():
        with psycopg.connect(read_models_url, row_factory=dict_row) as connection:
            return connection.execute("select * from users").fetchone()

    create = ("users", "create", "Sara@Acme.example", "--role", "sales", "--password-stdin")
    for text, remedy in [("short\n", "12 to 256 characters"), ("a" * 30, "easy to guess"), ("", "12 to 256")]:
        typed(text)
        assert remedy in command(*create, code=1)[1]
    typed("correct horse battery staple\n")
    assert "sara@acme.example may sign in as sales" in command(*create)[0]
    assert verify_password(stored()["password_hash"], "correct horse battery staple")
    typed("correct horse battery staple\n")
    assert "somebody has this e-mail address already" in command(*create, code=1)[1]
    assert "roles are viewer" in command("users", "set-role", "sara@acme.example", "king", code=1)[1]
    assert "is marketer now" in command("users", "set-role", "SARA@acme.example", "marketer")[0]
    assert "is disabled" in command("users", "disable", "sara@acme.example")[0]
    assert command("users", "list")[0].splitlines()[1].endswith("disabled")
    assert "nobody has this" in command("users", "disable", "x@acme.example", code=1)[1]
    assert "no e-mail address" in command("users", "create", "nonsense", "--no-password", code=1)[1]
    typed("")
    assert "pass --password-stdin" in command("users", "set-password", "sara@acme.example", code=1)[1]
