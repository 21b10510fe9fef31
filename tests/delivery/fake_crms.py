"""CRMs on this machine that keep to the contracts that the vendors publish, as far as a push needs them.

HubSpot's CRM API 2026-03: POST /crm/objects/2026-03/contacts/batch/upsert, a bearer token, inputs with id, idProperty and
properties that are texts, which the account must define. Pipedrive's API v2: GET /api/v2/persons/search, POST /api/v2/persons,
PATCH /api/v2/persons/{id}, the header x-api-token, 40-character hashes as custom fields. Odoo 19's JSON-2: POST
/json/2/MODEL/METHOD, a bearer API key, named arguments.
"""

import json
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

from receivers import Answer, ReceivedRequest

TOKEN = "a-token"
HUBSPOT_PROPERTIES = {"email", "firstname", "lastname", "phone", "company", "jobtitle", "lead_score"}
PIPEDRIVE_FIELD = "dcf558aac1ae4e8c4f849ba5e668430d8df9be12"
PIPEDRIVE_KEYS = {
    "name",
    "owner_id",
    "org_id",
    "emails",
    "phones",
    "visible_to",
    "label_ids",
    "custom_fields",
}
ODOO_FIELDS = {"name", "contact_name", "email_from", "phone", "partner_name", "function", "x_score"}


def answer(status: int, body: Any) -> Answer:
    return Answer(status, {"content-type": "application/json"}, json.dumps(body).encode())


class FakeHubspot:
    def __init__(self) -> None:
        self.contacts: dict[str, dict[str, str]] = {}

    def __call__(self, request: ReceivedRequest) -> Answer:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return answer(401, {"status": "error", "category": "INVALID_AUTHENTICATION"})
        if (request.method, request.path) != ("POST", "/crm/objects/2026-03/contacts/batch/upsert"):
            return answer(404, {"status": "error"})
        results = []
        for each in request.json()["inputs"]:
            assert set(each) <= {"id", "idProperty", "properties", "objectWriteTraceId"}
            assert each["idProperty"] == "email"
            unknown = set(each["properties"]) - HUBSPOT_PROPERTIES
            if unknown or not all(isinstance(value, str) for value in each["properties"].values()):
                return answer(400, {"status": "error", "category": "VALIDATION_ERROR"})
            new = each["id"] not in self.contacts
            self.contacts.setdefault(each["id"], {}).update(each["properties"])
            results.append({"id": "512", "new": new, "properties": each["properties"], "archived": False})
        return answer(200, {"status": "COMPLETE", "results": results})


class FakePipedrive:
    def __init__(self) -> None:
        self.persons: list[dict[str, Any]] = []

    def __call__(self, request: ReceivedRequest) -> Answer:
        if request.headers.get("x-api-token") != TOKEN:
            return answer(401, {"success": False, "error": "unauthorized access"})
        address = urlsplit(request.path)
        match request.method, address.path:
            case "GET", "/api/v2/persons/search":
                query = {name: values[0] for name, values in parse_qs(address.query).items()}
                assert query["fields"] == "email"
                assert query["exact_match"] == "true"
                matching = [
                    {"result_score": 1.0, "item": {"id": number, "type": "person", "name": person["name"]}}
                    for number, person in enumerate(self.persons, 1)
                    if any(each["value"].lower() == query["term"].lower() for each in person["emails"])
                ]
                found = {
                    "success": True,
                    "data": {"items": matching},
                    "additional_data": {"next_cursor": None},
                }
                return answer(200, found)
            case "POST", "/api/v2/persons":
                person = self._checked(request.json())
                if "name" not in person:
                    return answer(400, {"success": False, "error": "name is required"})
                self.persons.append(person)
                return answer(201, {"success": True, "data": {"id": len(self.persons), **person}})
            case "PATCH", path if match := re.fullmatch(r"/api/v2/persons/(\d+)", path):
                self.persons[int(match[1]) - 1].update(self._checked(request.json()))
                return answer(200, {"success": True, "data": self.persons[int(match[1]) - 1]})
        return answer(404, {"success": False})

    def _checked(self, person: dict[str, Any]) -> dict[str, Any]:
        assert set(person) <= PIPEDRIVE_KEYS
        for each in (*person.get("emails", ()), *person.get("phones", ())):
            assert set(each) == {"value", "primary", "label"}
        assert all(re.fullmatch(r"[0-9a-f]{40}", name) for name in person.get("custom_fields", {}))
        return person


class FakeOdoo:
    def __init__(self) -> None:
        self.leads: dict[int, dict[str, Any]] = {}

    def __call__(self, request: ReceivedRequest) -> Answer:
        if request.headers.get("authorization") != f"bearer {TOKEN}":
            return answer(401, {"name": "werkzeug.exceptions.Unauthorized", "message": "Invalid apikey"})
        assert request.headers["x-odoo-database"] == "acme"
        arguments = request.json()
        match request.path:
            case "/json/2/crm.lead/search":
                assert set(arguments) == {"domain", "limit"}
                ((field, operator, value),) = arguments["domain"]
                assert (field, operator) == ("email_from", "=ilike")
                pattern = re.sub(r"\\(.)|%|_", lambda match: re.escape(match[1]) if match[1] else ".*", value)
                return answer(
                    200,
                    [
                        n
                        for n, each in self.leads.items()
                        if re.fullmatch(pattern, each["email_from"], re.IGNORECASE)
                    ],
                )
            case "/json/2/crm.lead/create":
                (values,) = arguments["vals_list"]
                return self._write(len(self.leads) + 1, values, lambda number: [number])
            case "/json/2/crm.lead/write":
                (number,) = arguments["ids"]
                return self._write(number, arguments["vals"], lambda _: True)
        return answer(404, {"name": "werkzeug.exceptions.NotFound"})

    def _write(self, number: int, values: dict[str, Any], result: Any) -> Answer:
        if set(values) - ODOO_FIELDS:
            return answer(422, {"name": "builtins.ValueError", "message": "Invalid field"})
        self.leads.setdefault(number, {}).update(values)
        return answer(200, result(number))
