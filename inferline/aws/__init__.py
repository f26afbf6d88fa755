"""The adapter to AWS: a lean client, and the core's ports on SQS, DynamoDB, S3 and STS."""

from __future__ import annotations
