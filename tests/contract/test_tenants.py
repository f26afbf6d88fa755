"""The contract of every store of tenants."""

from __future__ import annotations

from inferline.accounts.limits import Limits
from inferline.accounts.tenants import Tenant
from tests.support.seams import Seams


async def test_a_tenant_of_which_nothing_is_kept_is_not_limited(seams: Seams) -> None:
    tenant = await seams.tenants.tenant("acme")

    assert Tenant(id="acme", models=("*",), providers=None) == tenant
    assert [] == await seams.tenants.tenants()


async def test_limits_are_read_as_they_were_kept_and_listed_by_name(seams: Seams) -> None:
    second = Tenant(id="globex", models=("org/*", "m"), providers=("t1", "t2"))
    limits = Limits(tokens_per_minute=0, concurrent_requests=32)
    first = Tenant(id="acme", providers=(), limits=limits)
    for one in (second, first):
        await seams.tenants.put_tenant(one)

    assert second == await seams.tenants.tenant("globex")
    assert first == await seams.tenants.tenant("acme")
    assert [first, second] == await seams.tenants.tenants()


async def test_limits_replace_those_before(seams: Seams) -> None:
    await seams.tenants.put_tenant(Tenant(id="acme", models=("m",), providers=("t1",)))
    await seams.tenants.put_tenant(Tenant(id="acme"))

    assert Tenant(id="acme") == await seams.tenants.tenant("acme")
