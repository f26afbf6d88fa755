#!/usr/bin/env bash
# MiniStack 1.5.33 finds an item whose key is a number only if the number is written as it was when the item was put.
#
# Guess: 1.5, 1.50 and 15e-1 are one number, so they are one key, as at DynamoDB. moto 5.2.5 does so.
# What it does: GetItem compares the text, so 1.50 finds nothing, and UpdateItem with 1.50 makes a second item, whose key is then told
# as 1.5 like that of the first: two items with one key, which DynamoDB cannot have. Clients in other languages write numbers in
# other ways: two of them do not meet.
#
# Seen on 1 December 2026, Python 3.11:
#   moto 5.2.5: get 1.50 finds it, get 15e-1 finds it, items after an update of 1.50: 1
#   MiniStack 1.5.33: get 1.50 finds nothing, get 15e-1 finds nothing, items after an update of 1.50: 2
#   as expected: MiniStack takes the text for the key
set -euo pipefail
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/moto"
"$work/moto/bin/pip" install -qq 'moto[dynamodb]==5.2.5' flask==3.1.3 flask-cors==6.0.5
"${PYTHON:-python3}" -m venv "$work/ministack"
"$work/ministack/bin/pip" install -qq ministack==1.5.33 boto3==1.43.106
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
    kinds = {"pk": "S", "sk": "N"}
    client.create_table(
        TableName="items",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": kind} for name, kind in kinds.items()],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        BillingMode="PAY_PER_REQUEST",
    )

    def key(number):
        return {"pk": {"S": "1"}, "sk": {"N": number}}

    def get(number):
        there = "Item" in client.get_item(TableName="items", Key=key(number), ConsistentRead=True)
        return "finds it" if there else "finds nothing"

    client.put_item(TableName="items", Item=key("1.5"))
    seen = [get("1.50"), get("15e-1")]
    change = {"UpdateExpression": "SET v = :v", "ExpressionAttributeValues": {":v": {"S": "x"}}}
    client.update_item(TableName="items", Key=key("1.50"), **change)
    return [*seen, client.scan(TableName="items")["Count"]]


seen = [look(port) for port in sys.argv[1:]]
for name, what in zip(("moto 5.2.5", "MiniStack 1.5.33"), seen):
    print("%s: get 1.50 %s, get 15e-1 %s, items after an update of 1.50: %d" % (name, *what))
same = seen == [["finds it", "finds it", 1], ["finds nothing", "finds nothing", 2]]
print("as expected: MiniStack takes the text for the key" if same else "CHANGED")
raise SystemExit(not same)
PY
"$work/ministack/bin/python" "$work/ask.py" "$moto" "$mini"
