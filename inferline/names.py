"""Names of models: which are valid, and how they read in keys, queue names and task ids."""

from __future__ import annotations

import hashlib
import re
from typing import Final

SLUG_CHARS_MAX: Final = 40
_DIGEST_CHARS: Final = 12
#: Two of 500 models have the same mark once in 30,000 times; then both are asked for the task.
MODEL_HASH_CHARS: Final = 8
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
#: Between a model's name and the tenant that it is reserved for; neither may hold it.
_TENANT_SEPARATOR: Final = "#"
#: What the slug of a reserved model begins with, and no other.
DEDICATED_SLUG_PREFIX: Final = "-"
_DEDICATED_DIGEST_CHARS: Final = 32


def dedicated_name(model: str, tenant: str) -> str:
    """What the registry calls a model as far as it is reserved for a tenant."""
    return f"{model}{_TENANT_SEPARATOR}{tenant}"


def base_name(name: str) -> str:
    """What clients and backends call the model that the registry calls ``name``."""
    return name.partition(_TENANT_SEPARATOR)[0]


def slug(model: str) -> str:
    """
    A model's name as it stands in keys and queue names: ``[A-Za-z0-9_-]{1,53}``, injective.

    The readable part is cut at 40 characters; 12 hex digits of the SHA-256 keep names apart. That
    of a reserved model is a dash and digits: rights to other models end in a star, and whatever
    those are called, none of these can begin like it.
    """
    if _TENANT_SEPARATOR in model:
        digest = hashlib.sha256(model.encode()).hexdigest()
        return f"{DEDICATED_SLUG_PREFIX}{digest[:_DEDICATED_DIGEST_CHARS]}"
    readable = _UNSAFE.sub("-", model)[:SLUG_CHARS_MAX].strip("-") or "model"
    return f"{readable}-{hashlib.sha256(model.encode()).hexdigest()[:_DIGEST_CHARS]}"


def model_hash(slug: str) -> str:
    """The part of a slug that its tasks' ids end in, hex: by it their model is found again."""
    return slug[-_DIGEST_CHARS:][:MODEL_HASH_CHARS]


#: What a model or a provider may be called: no markup, no control characters, no spaces.
NAME: Final = re.compile(r"[A-Za-z0-9_./:@+-]{1,128}")
#: Longest name of a row of the registry, bytes, as DynamoDB has it.
NAME_BYTES_MAX: Final = 1024
