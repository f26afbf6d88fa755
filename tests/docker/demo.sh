#!/usr/bin/env bash
# Runs the demo of docker/ for real, with its own curl commands, and leaves nothing of it behind.
# Needs Docker 25 or newer with compose, and curl. It works under a project name of its own; the
# ports are those of docs/containers.md unless GATEWAY_PORT, DASHBOARD_PORT and LLM_PORT say else.
# With MODELS, MODEL_FILE and MODEL_SHA256 it uses weights that are here; else it fetches 669 MB.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

export DEMO=${DEMO:-inferline-demo-test}
# A slow machine may need longer than the demo's 10 s for what it has begun.
export DRAIN_SECONDS=120
gateway=http://localhost:${GATEWAY_PORT:-8000}
dashboard=http://localhost:${DASHBOARD_PORT:-5000}
llm=http://localhost:${LLM_PORT:-8001}
model=tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf
work=$(mktemp -d)

demo() { docker compose -p "$DEMO" -f docker/docker-compose-local-demo.yml "$@"; }
second() {
  INFERLINE_BASE_URL=http://gateway:8000 INFERLINE_PROVIDER_TOKEN='' PROVIDER_ID=second \
    docker compose -p "$DEMO-second" -f docker/docker-compose-tinyllama.yml -f docker/docker-compose-join-demo.yml "$@"
}
claim() { printf '%s\n' "- $*"; }
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }
left() {
  docker ps -aq --filter "name=^$DEMO"
  docker network ls -q --filter "name=^$DEMO"
  docker volume ls -q --filter "name=^$DEMO"
}
end() {
  code=$?
  if [ $code != 0 ]; then
    demo logs --tail 40 >&2 || true
    second logs --tail 40 >&2 || true
  fi
  { second down -v; demo down -v; } >/dev/null 2>&1 || true
  rm -rf "$work"
  exit $code
}
[ -z "$(left)" ] || fail "something named $DEMO is here already; remove it first"
trap end EXIT

claim "up brings up all of it, in order, and comes back when the page is there and a provider has joined"
demo up -d --build >"$work/up" 2>&1 || { cat "$work/up" >&2; fail "up"; }

claim "the gateway is well"
curl -fsS "$gateway/health" | grep -q '"status":"ok"'

claim "the classic command gets an answer"
curl -fsS -X POST "$gateway/completions" -H "Content-Type: application/json" \
  -d '{"model": "'$model'", "prompt": "Hello, how are you?"}' | grep -q '"text_completion"'

claim "an answer streams"
question='{"model": "'$model'", "stream": true, "messages": [{"role": "user", "content": "What is a queue?"}], "max_tokens": 32}'
curl -fsSN "$gateway/v1/chat/completions" -H "Content-Type: application/json" -d "$question" >"$work/stream"
[ "$(grep -c '^data: ' "$work/stream")" -gt 3 ] || fail "no stream came"
grep -q '^data: \[DONE\]' "$work/stream"

claim "the page is there, and /api under the same address"
curl -fsSL "$dashboard" >"$work/page"
grep -qi '<!doctype html>' "$work/page"
curl -fsS "$dashboard/api/health" | grep -q '"status":"ok"'

claim "the LLM server itself can be asked"
curl -fsS "$llm/v1/models" | grep -q "$model"

claim "each container is nobody's and can't write outside /tmp"
for service in emulator gateway dashboard llm provider; do
  [ "$(demo exec -T "$service" id -u)" = 10001 ] || fail "$service runs as somebody"
  ! demo exec -T "$service" sh -c ': >/opt/inferline/x' 2>/dev/null || fail "$service writes"
done

claim "a provider that is stopped finishes what it has begun"
curl -fsSN "$gateway/v1/chat/completions" -H "Content-Type: application/json" \
  -d "${question/32/200}" >"$work/drained" &
asked=$!
until grep -q '^data: ' "$work/drained"; do sleep 0.1; kill -0 $asked || fail "no answer began"; done
demo stop -t 130 provider >/dev/null 2>&1
wait $asked
grep -q '^data: \[DONE\]' "$work/drained" || fail "the answer was cut off"
[ "$(docker inspect -f '{{.State.ExitCode}}' "$DEMO-provider-1")" = 0 ] || fail "the provider was killed"

claim "another compose file's provider joins and takes over"
second up -d --build >"$work/up" 2>&1 || { cat "$work/up" >&2; fail "the second one's up"; }
until [ "$(docker inspect -f '{{.State.Health.Status}}' "$DEMO-second-provider-1")" = healthy ]; do sleep 1; done
curl -fsS -D "$work/head" -o /dev/null "$gateway/completions" -H "Content-Type: application/json" \
  -d '{"model": "'$model'", "prompt": "Hello", "max_tokens": 4}'
grep -qi '^x-inferline-provider: second' "$work/head" || fail "the second provider did not answer"

claim "down leaves nothing but the weights, and down -v nothing"
second down -v >/dev/null 2>&1
demo down >/dev/null 2>&1
[ -z "$(docker ps -aq --filter "name=^$DEMO")$(docker network ls -q --filter "name=^$DEMO")" ] || fail "down left something"
demo down -v >/dev/null 2>&1
[ -z "$(left)" ] || fail "down -v left something"
claim "all of it is as it should be"
