#!/usr/bin/env bash
# TransactWriteItems twice with one ClientRequestToken: moto 5.2.5 applies it twice, MiniStack 1.5.33 once.
#
# Guess: the second call does nothing and succeeds, since the token is there to make a retry safe (DynamoDB remembers it for ten minutes).
# moto has had TransactWriteItems for years.
# What moto does: it does not look at the token. A test that a retried transaction counts once fails on moto, though the code is right; and
# whoever then adds a condition of his own to please the test has two mechanisms. boto3 makes up a token for each call, so its own
# retries, after an answer that was lost, are applied twice too.
#
# Seen on 1 December 2026, Python 3.11:
#   moto 5.2.5: a counter after one transaction sent twice: 2
#   MiniStack 1.5.33: a counter after one transaction sent twice: 1
#   as expected: moto applies it twice
set -euo pipefail
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/moto"
"$work/moto/bin/pip" install -qq --disable-pip-version-check 'moto[dynamodb]==5.2.5' flask==3.1.3 flask-cors==6.0.5
"${PYTHON:-python3}" -m venv "$work/ministack"
"$work/ministack/bin/pip" install -qq --disable-pip-version-check ministack==1.5.33 boto3==1.43.106
port() { "${PYTHON:-python3}" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
moto=$(port) mini=$(port)
"$work/moto/bin/moto_server" -H 127.0.0.1 -p "$moto" >/dev/null 2>&1 &
(cd "$work" && BIND_HOST=127.0.0.1 GATEWAY_PORT=$mini IOT_MTLS_ENABLED=0 exec ministack/bin/ministack) >/dev/null 2>&1 &
cat > "$work/ask.py" <<'PY'
import sys, time

import boto3


def look(port):
    where = {"region_name": "us-east-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}
    client = boto3.client("dynamodb", endpoint_url=f"http://127.0.0.1:{port}", **where)
    for _ in range(60):
        try:
            client.list_tables()
            break
        except Exception:
            time.sleep(1)
    client.create_table(
        TableName="items",
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    client.get_waiter("table_exists").wait(TableName="items", WaiterConfig={"Delay": 1})
    key = {"TableName": "items", "Key": {"pk": {"S": "counter"}}}
    add = {"UpdateExpression": "ADD n :one", "ExpressionAttributeValues": {":one": {"N": "1"}}}
    for _ in range(2):
        client.transact_write_items(ClientRequestToken="once", TransactItems=[{"Update": {**key, **add}}])
    return client.get_item(**key)["Item"]["n"]["N"]


seen = [look(port) for port in sys.argv[1:]]
for name, count in zip(("moto 5.2.5", "MiniStack 1.5.33"), seen):
    print(f"{name}: a counter after one transaction sent twice: {count}")
same = seen == ["2", "1"]
print("as expected: moto applies it twice" if same else "CHANGED")
raise SystemExit(not same)
PY
"$work/ministack/bin/python" "$work/ask.py" "$moto" "$mini"
