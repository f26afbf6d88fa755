import json

# ruleid: gateway-asks-nobody
import httpx

# ruleid: gateway-asks-nobody
from urllib.request import urlopen

# ok: gateway-asks-nobody
from urllib.parse import urlsplit


async def fetched(connections, request, settings, text):
    asked = json.loads(text)
    # ruleid: address-from-a-client
    urlopen(asked["image_url"], timeout=5)
    url = f"https://{asked['host']}/picture"
    # ruleid: address-from-a-client
    httpx.get(url)
    # ruleid: address-from-a-client
    await connections.send("GET", request.query_params["url"], {}, b"")
    # ok: address-from-a-client
    await connections.send("POST", settings.backend + "/v1/models", {}, text)
    # ok: address-from-a-client
    return urlsplit(asked["image_url"])
