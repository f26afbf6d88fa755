#!/usr/bin/env bash
# CompleteMultipartUpload with its parts listed as 2, 1: moto 5.2.5 makes an object in that order, MiniStack 1.5.33 one in the order of the
# numbers; S3 refuses it.
#
# Guess: InvalidPartOrder, as S3's documentation says: the list must be in ascending order.
# What they do: both answer 200, and the object begins with another part at each. Code that lists parts as their uploads end (several
# at a time) passes its tests on MiniStack with the right bytes, on moto with wrong ones, and fails at S3 as soon as one part overtakes
# another. MiniStack does not mind parts of less than 5 MiB either (moto and S3: EntityTooSmall).
#
# Seen on 1 December 2026, Python 3.11:
#   moto 5.2.5: parts 2, 1: the object begins with part 2; parts of 1 MiB: EntityTooSmall
#   MiniStack 1.5.33: parts 2, 1: the object begins with part 1; parts of 1 MiB: taken
#   as expected: nobody says InvalidPartOrder
set -euo pipefail
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/moto"
"$work/moto/bin/pip" install -qq --disable-pip-version-check 'moto[s3]==5.2.5' flask==3.1.3 flask-cors==6.0.5
"${PYTHON:-python3}" -m venv "$work/ministack"
"$work/ministack/bin/pip" install -qq --disable-pip-version-check ministack==1.5.33 boto3==1.43.106
port() { "${PYTHON:-python3}" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
moto=$(port) mini=$(port)
"$work/moto/bin/moto_server" -H 127.0.0.1 -p "$moto" >/dev/null 2>&1 &
(cd "$work" && BIND_HOST=127.0.0.1 GATEWAY_PORT=$mini IOT_MTLS_ENABLED=0 exec ministack/bin/ministack) >/dev/null 2>&1 &
cat > "$work/ask.py" <<'PY'
import sys, time

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

MIB = 2**20


def upload(client, key, size, order):
    """Upload one part of `1` and one of `2`, list them in an order, and return how the object begins."""
    where = {"Bucket": "parts", "Key": key}
    where["UploadId"] = client.create_multipart_upload(**where)["UploadId"]
    etags = {n: client.upload_part(PartNumber=n, Body=b"%d" % n * size, **where)["ETag"] for n in (1, 2)}
    listed = [{"PartNumber": number, "ETag": etags[number]} for number in order]
    try:
        client.complete_multipart_upload(MultipartUpload={"Parts": listed}, **where)
    except ClientError as error:
        return error.response["Error"]["Code"]
    return client.get_object(Bucket="parts", Key=key)["Body"].read(1).decode()


def look(port):
    where = {"region_name": "us-east-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}
    config = Config(s3={"addressing_style": "path"})
    client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", config=config, **where)
    for _ in range(60):
        try:
            client.list_buckets()
            break
        except Exception:
            time.sleep(1)
    client.create_bucket(Bucket="parts")
    return upload(client, "reversed", 5 * MIB, (2, 1)), upload(client, "small", MIB, (1, 2))


seen = [look(port) for port in sys.argv[1:]]
for name, (first, small) in zip(("moto 5.2.5", "MiniStack 1.5.33"), seen):
    taken = "taken" if small == "1" else small
    print(f"{name}: parts 2, 1: the object begins with part {first}; parts of 1 MiB: {taken}")
same = seen == [("2", "EntityTooSmall"), ("1", "1")]
print("as expected: nobody says InvalidPartOrder" if same else "CHANGED")
raise SystemExit(not same)
PY
"$work/ministack/bin/python" "$work/ask.py" "$moto" "$mini"
