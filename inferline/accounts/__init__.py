"""Accounts: API keys and provider tokens, the tenants that own them, and their limits."""
