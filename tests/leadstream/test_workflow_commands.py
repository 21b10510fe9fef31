"""Workflows at the command line: published, listed, shown, compared, previewed."""

import json

import pytest
from command_line import leadstream_here

from tests.scoring.test_workflow_edits import UNNUMBERED

pytestmark = pytest.mark.postgres


@pytest.fixture
def command(database_url, tmp_path):
    def run(*arguments, code=0, error=False):
        """What it writes to standard output; to standard error, if it fails or that is asked for."""
        done = leadstream_here(
            *arguments,
            LEADSTREAM_DATABASE_URL=database_url,
            LEADSTREAM_DATA_DIR=str(tmp_path),
            LEADSTREAM_PARTITIONS="2",
        )
        assert done.returncode == code, done.stderr.decode()
        assert b"Traceback" not in done.stderr
        return (done.stderr if code or error else done.stdout).decode()

    return run


def test_workflows_from_their_publication_to_their_history(command, tmp_path):
    file = tmp_path / "ours.toml"
    file.write_text(UNNUMBERED, encoding="utf-8")
    assert "version 1, are active: workflow_created 1, 2." in command(
        "publish-workflows", file, "--by", "ada"
    )
    assert "unchanged" in command("publish-workflows", file)
    header, *rows = command("workflows", "list").splitlines()
    assert header.split("\t") == ["Id", "Name", "Active", "Priority", "Trigger", "Action"]
    assert [row.split("\t")[:4] for row in rows] == [["1", "Call", "yes", "0"], ["2", "Tell", "yes", "0"]]
    shown = command("workflows", "show")
    assert "highest_workflow_id = 2" in shown

    file.write_text(shown.replace("Hello", "Good morning"), encoding="utf-8")
    assert "version 2" in command("publish-workflows", file, "--based-on", 1, "--note", "politer")
    late = command("publish-workflows", file, "--based-on", 1, code=1)
    assert "`leadstream workflows diff 1 2`" in late
    assert command("workflows", "show", "--version", 1) == shown
    assert "+action" in command("workflows", "diff", 1, 2)
    _, newest, first = command("workflows", "history").splitlines()
    assert newest.split("\t")[3:] == ["workflow_changed 2", "politer"]
    assert first.split("\t")[2:4] == ["ada", "workflow_created 1, 2"]

    preview = json.loads(command("workflows", "preview", file, "--json", "--days", 7))
    assert (preview["events"], preview["fired"]) == (0, 0)
    assert [each["name"] for each in preview["workflows"]] == ["Call", "Tell"]
    assert "would have fired" in command("workflows", "preview").lower()
    file.write_text(UNNUMBERED.replace("75", "-1"), encoding="utf-8")
    assert "ours.toml: line 4, workflow 'Call', trigger.score" in command("publish-workflows", file, code=1)
    assert "built-in set" in command("publish-workflows", "nowhere", code=1)
    assert "are active: workflow_deleted 1, 2" in command("publish-workflows", "progressive")
