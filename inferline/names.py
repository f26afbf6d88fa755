"""Names of models: the valid ones, and their forms in keys, queue names and task ids."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import Final

SLUG_CHARS_MAX: Final = 40
_DIGEST_CHARS: Final = 12
#: Slugs that are remembered: one request uses its model's several times.
_SLUGS_MAX: Final = 2048
#: Two of 500 models share a hash with a chance of 1 in 30,000; then both are searched for a task.
MODEL_HASH_CHARS: Final = 8
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
#: Separates a model's name from the tenant that it is dedicated to; neither may contain it.
_TENANT_SEPARATOR: Final = "#"
#: The beginning of a dedicated model's slug, and of no other.
DEDICATED_SLUG_PREFIX: Final = "-"
_DEDICATED_DIGEST_CHARS: Final = 32


def dedicated_name(model: str, tenant: str) -> str:
    """Return the registry's name of a model that is dedicated to a tenant."""
    return f"{model}{_TENANT_SEPARATOR}{tenant}"


def base_name(name: str) -> str:
    """Return the name that clients and backends use for the registry's ``name``."""
    return name.partition(_TENANT_SEPARATOR)[0]


@lru_cache(maxsize=_SLUGS_MAX)
def slug(model: str) -> str:
    """
    Return a model's form in keys and queue names, ``[A-Za-z0-9_-]{1,53}``, unique for each model.

    The readable part is cut at 40 characters; 12 hex digits of the SHA-256 keep names apart. The
    slug of a dedicated model is a dash and digits: no pattern of rights to another model, which
    ends in a star, can match it.
    """
    if _TENANT_SEPARATOR in model:
        digest = hashlib.sha256(model.encode()).hexdigest()
        return f"{DEDICATED_SLUG_PREFIX}{digest[:_DEDICATED_DIGEST_CHARS]}"
    readable = _UNSAFE.sub("-", model)[:SLUG_CHARS_MAX].strip("-") or "model"
    return f"{readable}-{hashlib.sha256(model.encode()).hexdigest()[:_DIGEST_CHARS]}"


def model_hash(slug: str) -> str:
    """Return the end of the ids of a slug's tasks, hex: it leads back to their model."""
    return slug[-_DIGEST_CHARS:][:MODEL_HASH_CHARS]


#: A valid name of a model or a provider: no markup, no control characters, no spaces.
NAME: Final = re.compile(r"[A-Za-z0-9_./:@+-]{1,128}")
#: The longest name in the registry, bytes: DynamoDB's limit on a sort key.
NAME_BYTES_MAX: Final = 1024
