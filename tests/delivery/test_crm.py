"""A lead is pushed into a CRM: one record per e-mail address, with mapped fields, however often it is repeated."""

import asyncio
from datetime import UTC, datetime

import pytest
from fake_crms import PIPEDRIVE_FIELD, TOKEN, FakeHubspot, FakeOdoo, FakePipedrive
from outboxes import configured

from delivery.message import LeadCard
from delivery.outcomes import DeliveryFailedError, DeliveryRejectedError
from delivery.sending import send_sample
from delivery.templates import SAMPLE

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CHANNELS = {
    "hubspot": 'fields = { "score.rules" = "lead_score" }\n',
    "pipedrive": f'fields = {{ "score.rules" = "{PIPEDRIVE_FIELD}" }}\n',
    "odoo": 'database = "acme"\nfields = { "score.rules" = "x_score" }\n',
}
LEAD = SAMPLE._replace(
    lead=LeadCard(
        "lead-1",
        "Ada Lovelace",
        "ada_b@example.com",
        "+442079460000",
        "Engines",
        fields={
            "email": "ada_b@example.com",
            "first_name": "Ada",
            "phone": "+442079460000",
            "company": "Engines",
        },
        scores={"rules": 82},
    )
)


def push(receiver, kind, message=LEAD, *, token=TOKEN, extra=""):
    text = f'[channels.crm]\ntype = "{kind}"\naddress = "{receiver.url}"\ntoken = "env:TOKEN"\n{extra or CHANNELS[kind]}'
    asyncio.run(send_sample(configured(text, TOKEN=token), "crm", NOW, message))


def test_hubspot_gets_a_contact_and_then_its_changes(receiver):
    receiver.otherwise = crm = FakeHubspot()
    push(receiver, "hubspot")
    assert crm.contacts == {
        "ada_b@example.com": {
            "email": "ada_b@example.com",
            "firstname": "Ada",
            "phone": "+442079460000",
            "company": "Engines",
            "lead_score": "82",
        }
    }
    push(receiver, "hubspot", LEAD._replace(lead=LEAD.lead._replace(scores={"rules": 90})))
    assert crm.contacts["ada_b@example.com"]["lead_score"] == "90"
    assert len(crm.contacts) == 1


def test_pipedrive_gets_a_person_and_then_its_changes(receiver):
    receiver.otherwise = crm = FakePipedrive()
    push(receiver, "pipedrive")
    push(receiver, "pipedrive", LEAD._replace(lead=LEAD.lead._replace(scores={"rules": 90})))
    (person,) = crm.persons
    assert person == {
        "name": "Ada Lovelace",
        "emails": [{"value": "ada_b@example.com", "primary": True, "label": "work"}],
        "phones": [{"value": "+442079460000", "primary": True, "label": "work"}],
        "custom_fields": {PIPEDRIVE_FIELD: 90},
    }


def test_odoo_gets_a_lead_and_then_its_changes_and_no_other_of_a_similar_address(receiver):
    receiver.otherwise = crm = FakeOdoo()
    crm.leads[1] = {"email_from": "adaXb@example.com"}
    push(receiver, "odoo")
    push(receiver, "odoo", LEAD._replace(lead=LEAD.lead._replace(scores={"rules": 90})))
    assert crm.leads == {
        1: {"email_from": "adaXb@example.com"},
        2: {
            "name": "Ada Lovelace",
            "contact_name": "Ada Lovelace",
            "email_from": "ada_b@example.com",
            "phone": "+442079460000",
            "partner_name": "Engines",
            "x_score": 90,
        },
    }


FAKES = {"hubspot": FakeHubspot, "pipedrive": FakePipedrive, "odoo": FakeOdoo}


@pytest.mark.parametrize("kind", FAKES)
def test_a_wrong_token_is_refused_and_not_repeated_in_the_reason(receiver, kind):
    receiver.otherwise = FAKES[kind]()
    with pytest.raises(DeliveryRejectedError, match="status 401") as refusal:
        push(receiver, kind, token="hunter2")
    assert "hunter2" not in refusal.value.reason


@pytest.mark.parametrize(("kind", "status"), [("hubspot", 400), ("odoo", 422)])
def test_a_field_that_the_crm_does_not_have_is_refused(receiver, kind, status):
    receiver.otherwise = FAKES[kind]()
    extra = 'database = "acme"\n' if kind == "odoo" else ""
    with pytest.raises(DeliveryRejectedError, match=f"status {status}"):
        push(receiver, kind, extra=extra + 'fields = { "score.rules" = "no_such_field" }\n')


@pytest.mark.parametrize("kind", FAKES)
def test_a_lead_without_an_address_cannot_be_found_in_a_crm(receiver, kind):
    with pytest.raises(DeliveryRejectedError, match="no e-mail address"):
        push(receiver, kind, LEAD._replace(lead=LeadCard("anon:x")))
    assert receiver.requests == []


@pytest.mark.parametrize("kind", ["pipedrive", "odoo"])
def test_an_answer_that_is_not_json_is_tried_again(receiver, kind):
    from receivers import Answer

    receiver.otherwise = Answer(200, {}, b"<html>maintenance</html>")
    with pytest.raises(DeliveryFailedError, match="not JSON"):
        push(receiver, kind)
