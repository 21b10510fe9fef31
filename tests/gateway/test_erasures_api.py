"""/api/erasures and /api/person-exports, as an operator uses them."""

import asyncio
import io
import zipfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.app import create_app
from leadstream.person_rights import embedded_ports
from leadstream.settings import Settings
from leadstream.wiring import open_system

pytestmark = [pytest.mark.postgres, pytest.mark.anyio]

TOKEN = "token-of-an-administrator-000"
ADA = "ada@firm.example"


@asynccontextmanager
async def serving(url: str, ledger: Path) -> Any:
    settings = Settings(
        database_url=url, partitions=2, erasures_file=ledger, api_tokens=f"default:read+write+admin:{TOKEN}"
    )
    with open_system(settings) as system:
        async with embedded_ports(system, settings) as ports:
            app = create_app(ports)
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with (
                app.router.lifespan_context(app),
                httpx.AsyncClient(
                    transport=transport,
                    base_url="http://localhost",
                    timeout=60,
                    headers={"Authorization": f"Bearer {TOKEN}"},
                ) as http,
            ):
                yield http


async def test_a_person_is_shown_and_erased_and_refused(database_url: str, tmp_path: Path):
    async with serving(database_url, tmp_path / "ledger") as http:
        shared = {"type": "contact_shared", "lead_id": "ada-1", "name": "Ada", "email": ADA}
        other = {"type": "qr_scanned", "lead_id": "bob-1"}
        assert (await http.post("/v1/events?wait=10", json=[shared, other])).status_code == 200

        archive = await http.post("/api/person-exports", json={"email": ADA})
        assert archive.headers["content-type"] == "application/zip"
        with zipfile.ZipFile(io.BytesIO(archive.content)) as file:
            assert ADA in file.read("profile.json").decode()
            assert "bob-1" not in "".join(file.read(name).decode() for name in file.namelist())

        preview = (await http.post("/api/erasures", json={"email": ADA, "dry_run": True})).json()
        assert (preview["leads"], preview["records"]["events"]) == (1, 1)
        assert (await http.get("/api/leads/ada-1")).status_code == 200, "a preview changes nothing"

        begun = await http.post("/api/erasures/", json={"email": f" {ADA.upper()}"})
        assert begun.status_code == 202, begun.text
        late = await http.post(
            "/v1/events", json={"type": "page_viewed", "visitor_id": "v", "lead_id": "ada-1"}
        )
        assert (late.status_code, "was erased" in late.json()["events"][0]["reason"]) == (422, True)
        single = await http.post(
            "/api/lead-tracking/engagement/ada-1",
            json={"engagement_type": "page_viewed", "engagement_channel": "web"},
        )
        assert single.status_code in {404, 410}, single.text

        for _ in range(600):
            erasure = (await http.get(begun.json()["location"])).json()
            if erasure["done"]:
                break
            await asyncio.sleep(0.2)
        assert erasure["step"] == "done"
        assert (await http.get("/api/erasures")).json() == {"erasures": [erasure]}
        assert (await http.get("/api/leads/ada-1")).status_code == 404
        assert (await http.get("/api/leads/bob-1")).status_code == 200
        again = await http.request("DELETE", "/api/leads/ada-1")
        assert (again.status_code, again.json()["error"]["field"]) == (404, "lead_id")

        audit = (await http.get("/api/audit")).json()["entries"]
        assert {entry["action"] for entry in audit} == {"person.export", "person.erase"}
        everything = "".join(str(entry) for entry in [*audit, erasure]).lower()
        assert "ada" not in everything.replace(TOKEN, "")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "lead_id"),
        ({"email": ADA, "phone": "1"}, "lead_id"),
        ({"lead_id": "nobody"}, "lead_id"),
        ({"phone": "+1"}, "phone"),
    ],
)
async def test_who_is_not_named_by_one_existing_name_is_a_clear_problem(
    database_url: str, tmp_path: Path, body: dict[str, Any], field: str
):
    async with serving(database_url, tmp_path / "ledger") as http:
        answer = await http.post("/api/erasures", json=body)
    assert answer.status_code in {404, 422}
    assert answer.json()["error"]["field"] == field
