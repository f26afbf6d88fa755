import hmac
import random
import secrets


def refused(shown, key, bearer, state):
    # ruleid: secret-compared-by-equals
    if shown.secret == key.text:
        return False
    # ruleid: secret-compared-by-equals
    if key.secret_sha256 != shown:
        return True
    # ruleid: secret-compared-by-equals
    if shown == bearer:
        return True
    # ok: secret-compared-by-equals
    if state == key.state:
        return True
    # ok: secret-compared-by-equals
    return not hmac.compare_digest(shown.secret, key.secret_sha256)


def made():
    # ruleid: secret-of-a-guessable-chance, chance-that-is-not-injected
    token = f"{random.getrandbits(64):x}"
    # ok: secret-of-a-guessable-chance
    secret = secrets.token_hex(32)
    return token, secret
