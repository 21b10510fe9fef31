"""An application on a real database with keys, people and a clock of its own, and a browser for its pages."""

import re
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from unittest import mock
from urllib.parse import urlsplit

import httpx
import psycopg
from argon2 import PasswordHasher
from psycopg.rows import dict_row

from gateway.access import Access, StoredKeys
from gateway.accounts import keys, passwords, users
from gateway.accounts.database import accounts_parameters
from gateway.accounts.keys import Author
from gateway.app import create_app
from gateway.ports import Ports

PASSWORD = "correct horse battery staple"
QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""By the smallest parameters, since the others take a quarter of a second each time (test_keys.py has those)."""
HASH = QUICK.hash(PASSWORD)
HOST = "http://leads.example"


class Clock:
    def __init__(self):
        self.now = datetime.now(UTC)

    def __call__(self):
        return self.now

    def advance(self, **by):
        self.now += timedelta(**by)


class Server:
    def __init__(self, app, url, clock, appended):
        self.app = app
        self.url = url
        self.clock = clock
        self.appended = appended

    def browser(self, address="203.0.113.9", base=HOST):
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False, client=(address, 1))
        return httpx.AsyncClient(transport=transport, base_url=base, timeout=60)

    async def run(self, work):
        """`work` in one transaction, as a command runs it."""
        async with await psycopg.AsyncConnection.connect(
            self.url, **accounts_parameters(self.url)
        ) as connection:
            return await work(connection, Author("cli:test", self.clock()))

    async def key(self, *scopes, tenant="acme", expires_at=None, name="a key"):
        made = await self.run(
            lambda connection, author: keys.create_key(connection, author, tenant, name, scopes, expires_at)
        )
        await self.refresh()
        return made

    async def person(self, email="sara@acme.example", role="sales", tenant="acme", password_hash=HASH):
        made = await self.run(
            lambda connection, author: users.create_user(
                connection,
                author,
                tenant=tenant,
                email=email,
                name="Sara",
                role=role,
                password_hash=password_hash,
            )
        )
        await self.refresh()
        return made

    async def refresh(self):
        assert await self.app.state.accounts.keys.refresh()

    def rows(self, sql, *values):
        with psycopg.connect(self.url, row_factory=dict_row) as connection:
            return connection.execute(sql, values).fetchall()


@asynccontextmanager
async def accounts_server(url, *, access=None, **ports):
    clock, appended = Clock(), []

    async def append(records):
        appended.extend(records)

    access = replace(access or Access(), stored=StoredKeys())
    app = create_app(Ports(append=append, database_url=url, access=access, now=clock, **ports))
    with mock.patch.object(passwords, "_hasher", QUICK):
        async with app.router.lifespan_context(app):
            yield Server(app, url, clock, appended)


def bearer(secret):
    return {"Authorization": f"Bearer {secret}"}


async def form_token(browser):
    page = await browser.get("/sign-in")
    return re.search(r'name="csrf_token" value="([0-9a-f]+)"', page.text)[1]


async def sign_in(browser, email="sara@acme.example", password=PASSWORD, **more):
    fields = {"email": email, "password": password, "csrf_token": await form_token(browser), **more}
    return await browser.post("/sign-in", data=fields)


async def who(browser):
    answer = await browser.get("/api/session")
    return answer.json()["person"] if answer.status_code == 200 else None


def path_of(address):
    return urlsplit(address).path
