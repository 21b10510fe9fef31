"""CRMs on this machine that are read: they keep to the contracts that the vendors publish, as far as a pull needs them.

HubSpot's CRM API 2026-03: POST /crm/objects/2026-03/{contacts,deals}/search (at most 200 a page and 10,000 in all) and
/batch/read (at most 100), POST /crm/associations/2026-03/deals/contacts/batch/read. Pipedrive's API v2: GET /api/v2/deals and
/api/v2/persons with updated_since, sort_by, cursor and ids. Odoo 19's JSON-2: POST /json/2/crm.lead/search_read, links as
[id, name], what is empty as false.
"""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fake_crms import TOKEN, FakeHubspot, FakeOdoo, FakePipedrive, answer
from receivers import Answer, ReceivedRequest


def millis(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000)


CHANGED = {"contacts": "lastmodifieddate", "deals": "hs_lastmodifieddate"}


class ReadableHubspot(FakeHubspot):
    """`records`: kind -> id -> properties. `page` is smaller than HubSpot's, so that few records have several."""

    def __init__(self, page: int = 200) -> None:
        super().__init__()
        self.page = page
        self.records: dict[str, dict[str, dict[str, Any]]] = {"contacts": {}, "deals": {}}
        self.contacts_of: dict[str, list[str]] = {}

    def put(self, kind: str, number: str, changed: datetime, contacts: list[str] | None = None, **properties):
        record = self.records[kind].setdefault(number, {})
        record.update(properties, **{CHANGED[kind]: changed.isoformat()})
        if contacts is not None:
            self.contacts_of[number] = contacts

    def __call__(self, request: ReceivedRequest) -> Answer:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return answer(401, {"status": "error", "category": "INVALID_AUTHENTICATION"})
        parts = request.path.strip("/").split("/")
        if parts[:3] == ["crm", "associations", "2026-03"]:
            assert parts[3:] == ["deals", "contacts", "batch", "read"]
            inputs = request.json()["inputs"]
            assert 0 < len(inputs) <= 100
            results = [
                {
                    "from": {"id": each["id"]},
                    "to": [
                        {"toObjectId": int(number), "associationTypes": []}
                        for number in self.contacts_of.get(each["id"], [])
                    ],
                }
                for each in inputs
            ]
            return answer(207 if not results else 200, {"status": "COMPLETE", "results": results})
        if parts[:3] == ["crm", "objects", "2026-03"] and parts[4:] == ["search"]:
            return self._search(parts[3], request.json())
        if parts[:3] == ["crm", "objects", "2026-03"] and parts[4:] == ["batch", "read"]:
            asked = request.json()
            assert 0 < len(asked["inputs"]) <= 100
            here = self.records[parts[3]]
            results = [
                self._shown(parts[3], each["id"], asked) for each in asked["inputs"] if each["id"] in here
            ]
            return answer(200, {"status": "COMPLETE", "results": results})
        return super().__call__(request)

    def _search(self, kind: str, asked: dict[str, Any]) -> Answer:
        changed = CHANGED[kind]
        ((only,),) = [group["filters"] for group in asked["filterGroups"]]
        assert (only["propertyName"], only["operator"]) == (changed, "GTE")
        assert asked["sorts"] == [{"propertyName": changed, "direction": "ASCENDING"}]
        assert asked["limit"] <= 200
        found = sorted(
            (moment, number)
            for number, record in self.records[kind].items()
            if (moment := millis(datetime.fromisoformat(record[changed]))) >= int(only["value"])
        )
        begin = int(asked.get("after", 0))
        assert begin + self.page <= 10_000
        results = [self._shown(kind, number, asked) for _, number in found[begin : begin + self.page]]
        body = {"total": len(found), "results": results}
        if begin + self.page < len(found):
            body["paging"] = {"next": {"after": str(begin + self.page)}}
        return answer(200, body)

    def _shown(self, kind: str, number: str, asked: dict[str, Any]) -> dict[str, Any]:
        record = self.records[kind][number]
        return {
            "id": number,
            "properties": {name: record.get(name) for name in asked["properties"]},
            "updatedAt": record[CHANGED[kind]],
            "archived": False,
        }


class ReadablePipedrive(FakePipedrive):
    """`rows`: deals and persons as API v2 shows them."""

    def __init__(self, page: int = 500) -> None:
        super().__init__()
        self.page = page
        self.rows: dict[str, list[dict[str, Any]]] = {"deals": [], "persons": []}

    def __call__(self, request: ReceivedRequest) -> Answer:
        address = urlsplit(request.path)
        kind = address.path.removeprefix("/api/v2/")
        if request.method != "GET" or kind not in self.rows:
            return super().__call__(request)
        if request.headers.get("x-api-token") != TOKEN:
            return answer(401, {"success": False, "error": "unauthorized access"})
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        assert int(query["limit"]) <= 500
        if "ids" in query:
            ids = [int(each) for each in query["ids"].split(",")]
            assert len(ids) <= 100
            found = [row for row in self.rows[kind] if row["id"] in ids]
            return answer(200, {"success": True, "data": found, "additional_data": {"next_cursor": None}})
        assert (query["sort_by"], query["sort_direction"]) == ("update_time", "asc")
        since = datetime.strptime(query["updated_since"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        found = sorted(
            (row for row in self.rows[kind] if datetime.fromisoformat(row["update_time"]) >= since),
            key=lambda row: row["update_time"],
        )
        begin = int(query.get("cursor", "p0")[1:])
        following = f"p{begin + self.page}" if begin + self.page < len(found) else None
        body = {
            "success": True,
            "data": found[begin : begin + self.page],
            "additional_data": {"next_cursor": following},
        }
        return answer(200, body)


class ReadableOdoo(FakeOdoo):
    """`rows`: records of crm.lead as search_read shows them."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, Any]] = []

    def __call__(self, request: ReceivedRequest) -> Answer:
        if request.path != "/json/2/crm.lead/search_read":
            return super().__call__(request)
        if request.headers.get("authorization") != f"bearer {TOKEN}":
            return answer(401, {"name": "werkzeug.exceptions.Unauthorized", "message": "Invalid apikey"})
        arguments = request.json()
        assert set(arguments) == {"domain", "fields", "order", "offset", "limit", "context"}
        assert arguments["context"] == {"active_test": False}
        ((field, operator, value),) = arguments["domain"]
        match field, operator:
            case "write_date", ">=":
                found = [row for row in self.rows if row["write_date"] >= value]
            case "id", "in":
                found = [row for row in self.rows if row["id"] in value]
            case other:
                raise AssertionError(other)
        found = sorted(found, key=lambda row: (row["write_date"], row["id"]))
        begin = arguments["offset"]
        shown = [
            {"id": row["id"], **{name: row.get(name, False) for name in arguments["fields"]}}
            for row in found[begin : begin + arguments["limit"]]
        ]
        return answer(200, shown)
