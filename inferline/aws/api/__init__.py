"""Calls to AWS: signing, credentials, retries and errors, without a general SDK."""
