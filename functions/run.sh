#!/bin/sh
# Started by the Lambda Web Adapter, which hands each request on to this port as plain HTTP.
export PYTHONPATH="${LAMBDA_TASK_ROOT:-$PWD}:${PYTHONPATH:-}:${LAMBDA_RUNTIME_DIR:-}"
exec python3 -m uvicorn --factory functions._app:streamed \
  --host 127.0.0.1 --port "${AWS_LWA_PORT:-${PORT:-8080}}" --loop asyncio --ws none \
  --http inferline.gateway.edge.protocol:Http1Protocol --lifespan on \
  --no-access-log --no-server-header --no-proxy-headers --log-level warning --timeout-keep-alive 900
