"""What a provider makes of what a backend says of its models."""

from __future__ import annotations

import pytest

from inferline.fleet.enrolment import Enrolment
from inferline_provider.backend import listing


@pytest.mark.parametrize("owner", ["evil\x1b[2J", "\x9b2J", "a\nb", "\ud800", "\x00" * 300])
def test_an_owner_that_the_gateway_would_refuse_keeps_no_provider_out(owner: str) -> None:
    model = listing.model({"id": "m", "owned_by": owner})

    assert model is not None
    enrolment = Enrolment(id="p", version="1", slots=1, models=[model])
    sent = Enrolment.model_validate_json(enrolment.model_dump_json())
    assert [model.owned_by] == [offer.owned_by for offer in sent.models]
    assert model.owned_by.isprintable()
