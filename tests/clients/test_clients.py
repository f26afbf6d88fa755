"""Real clients, unchanged, work through a real line as they would with the backend itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.answers import EMOJI, WORDS
from tests.support.pace import within

#: One client's name to what it saw in each case.
SightsOf = Callable[[str], dict[str, dict[str, Any]]]

OPENAI = ["openai-python 3", "openai-python 2", "openai-node"]
OPENAI_SHAPED = [*OPENAI, "langchain", "litellm"]
EVERY = [*OPENAI_SHAPED, "anthropic"]

#: What a client calls the reason for which a whole answer ends, if not "stop".
STOP = {"anthropic": "end_turn"}

chat_clients = pytest.mark.parametrize("client", OPENAI_SHAPED)
every_client = pytest.mark.parametrize("client", EVERY)
openai_clients = pytest.mark.parametrize("client", OPENAI)


def words(text: str) -> list[str]:
    pieces = text.split()
    assert set(pieces) <= set(WORDS)
    return pieces


@every_client
def test_a_whole_answer_arrives(sights_of: SightsOf, client: str) -> None:
    seen = sights_of(client)["chat"]

    assert len(words(seen["text"])) == 16
    assert seen["finish"] == STOP.get(client, "stop")
    assert seen["total_tokens"] == 20
    assert seen["calls"] == 1


@every_client
def test_a_stream_is_the_same_answer_token_by_token(sights_of: SightsOf, client: str) -> None:
    whole, seen = sights_of(client)["chat"], sights_of(client)["stream"]

    assert "error" not in seen
    assert seen["text"] == whole["text"]
    assert seen["finish"] == STOP.get(client, "stop")
    assert seen["total_tokens"] == 20
    assert seen["events"] >= 17


@every_client
def test_characters_of_many_bytes_survive_being_cut(sights_of: SightsOf, client: str) -> None:
    whole, seen = sights_of(client)["emoji"], sights_of(client)["emoji_stream"]

    assert len(whole["text"]) >= 16
    assert set(whole["text"]) <= set("".join(EMOJI))
    assert seen["text"] == whole["text"]
    assert seen["finish"] == STOP.get(client, "stop")


@openai_clients
def test_other_line_ends_and_comments_do_not_show(sights_of: SightsOf, client: str) -> None:
    plain, seen = sights_of(client)["stream"], sights_of(client)["crlf_stream"]

    assert "error" not in seen
    assert seen["text"] == plain["text"]
    assert seen["events"] == plain["events"]


@pytest.mark.parametrize("client", ["openai-python 3", "openai-python 2"])
def test_several_choices_do_not_mix(sights_of: SightsOf, client: str) -> None:
    seen = sights_of(client)["several"]

    assert seen["streamed"] == seen["whole"]
    assert len(set(seen["whole"])) == 2


@chat_clients
def test_a_tool_is_called(sights_of: SightsOf, client: str) -> None:
    seen = sights_of(client)["tools"]
    arguments = seen["arguments"]

    assert seen["name"] == "get_weather"
    assert seen["id"].startswith("call_")
    arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
    assert set(arguments) == {"city", "days"}


@openai_clients
def test_a_streamed_tool_call_is_the_same_call(sights_of: SightsOf, client: str) -> None:
    whole, seen = sights_of(client)["tools"], sights_of(client)["tools_stream"]

    assert {key: whole[key] for key in ("name", "arguments", "id")} == {
        key: seen[key] for key in ("name", "arguments", "id")
    }
    assert seen["finish"] == "tool_calls"


def test_structured_output_has_its_schema(sights_of: SightsOf) -> None:
    value = sights_of("langchain")["structured"]["value"]

    assert value["name"] in WORDS
    assert isinstance(value["count"], int)


@openai_clients
def test_old_completions_stop_at_max_tokens(sights_of: SightsOf, client: str) -> None:
    seen = sights_of(client)["completion"]

    assert len(words(seen["text"])) == 5
    assert seen["streamed"] == seen["text"]
    assert seen["finish"] == "length"


@chat_clients
def test_embeddings_arrive_in_order(sights_of: SightsOf, client: str) -> None:
    vectors = sights_of(client)["embeddings"]["vectors"]

    assert [len(vector) for vector in vectors] == [8, 8]
    assert vectors == sights_of("openai-python 3")["embeddings"]["vectors"]


@openai_clients
def test_responses_arrive_whole_and_as_named_events(sights_of: SightsOf, client: str) -> None:
    seen = sights_of(client)["responses"]

    assert len(words(seen["text"])) == 16
    assert seen["streamed"] == seen["text"]
    assert seen["last"] == "response.completed"


@openai_clients
def test_models_are_listed(sights_of: SightsOf, client: str) -> None:
    assert "test-model" in sights_of(client)["models"]["ids"]


@openai_clients
def test_files_are_uploaded_listed_over_pages_read_and_deleted(
    sights_of: SightsOf, client: str
) -> None:
    seen = sights_of(client)["files"]

    assert {"lines.jsonl", "upload"} == set(seen["names"])
    assert "processed" == seen["status"]
    assert seen["is_listed"]
    assert seen["is_same"]
    assert [True] * 5 == seen["deleted"]


@openai_clients
def test_answers_and_refusals_have_a_request_id(sights_of: SightsOf, client: str) -> None:
    sights = sights_of(client)

    ids = [sights[case]["request_id"] for case in ("chat", "emoji", "unknown_model", "refused")]

    assert all(request_id.startswith("req_") for request_id in ids)
    assert len(set(ids)) == 4


@every_client
def test_an_unknown_model_is_not_found_and_not_retried(sights_of: SightsOf, client: str) -> None:
    seen = sights_of(client)["unknown_model"]

    assert "NotFoundError" in seen["kinds"]
    assert seen["status"] == 404
    assert "no-such-model" in seen["message"]
    assert seen["calls"] == 0
    if client in OPENAI:  # The others drop the code.
        assert seen["code"] == "model_not_found"


@every_client
def test_a_refusal_of_the_backend_arrives_as_it_is(sights_of: SightsOf, client: str) -> None:
    seen = sights_of(client)["refused"]

    assert "BadRequestError" in seen["kinds"]
    assert seen["status"] == 400
    assert "scripted 400" in seen["message"]
    assert seen["calls"] == 1
    if client != "anthropic":  # Its errors have no code.
        assert seen["code"] == "scripted"


@every_client
def test_a_busy_backend_is_ridden_out_inside(sights_of: SightsOf, client: str) -> None:
    seen = sights_of(client)["fails_once"]

    assert len(words(seen["text"])) == 16
    assert seen["calls"] == 2
    assert seen["seconds"] >= 1


@every_client
def test_a_backend_busy_for_good_ends_at_the_deadline_and_is_not_retried(
    sights_of: SightsOf, line: Any, client: str
) -> None:
    seen = sights_of(client)["fails_for_good"]

    assert seen["status"] == 504
    assert "before its deadline" in seen["message"]
    assert line.deadline_seconds <= seen["seconds"] < within(2 * line.deadline_seconds)
    if client in OPENAI:
        assert seen["code"] == "deadline_exceeded"


@every_client
def test_a_model_that_nobody_serves_is_retried_when_the_gateway_said(
    sights_of: SightsOf, client: str
) -> None:
    seen = sights_of(client)["no_provider"]

    assert seen["status"] == 503
    assert "No provider has served the model 'unserved-model'" in seen["message"]
    # Retry-After is 5 s, and there was one retry.
    assert 5 < seen["seconds"] < within(10)
    if client in OPENAI:
        assert seen["code"] == "no_provider_available"


@chat_clients
def test_an_answer_that_breaks_each_time_raises_after_what_had_come(
    sights_of: SightsOf, client: str
) -> None:
    whole, seen = sights_of(client)["chat"], sights_of(client)["breaks"]

    assert "APIError" in seen["kinds"]
    assert whole["text"].startswith(seen["text"])
    # Each of three attempts went on for three tokens, or began anew where nothing was out.
    assert len(words(seen["text"])) in (3, 6, 9)
    assert "scripted failure" in seen["message"]


@chat_clients
def test_a_backend_that_dies_in_its_answer_is_not_seen(sights_of: SightsOf, client: str) -> None:
    whole, seen = sights_of(client)["chat"], sights_of(client)["dies"]

    assert "error" not in seen
    assert seen["text"] == whole["text"]
    assert seen["finish"] == "stop"
    assert seen["total_tokens"] == 20


@every_client
def test_a_client_that_gives_up_frees_the_backend_within_a_second(
    sights_of: SightsOf, client: str
) -> None:
    seen = sights_of(client)["timeout"]

    assert "Timeout" in seen["error"]
    assert seen["calls"] == 1
    assert 0.9 < seen["seconds"] < within(5)
    assert seen["freed_seconds"] < within(1)


def test_the_messages_api_tells_of_a_backend_that_dies_in_its_answer(sights_of: SightsOf) -> None:
    seen = sights_of("anthropic")["dies"]

    assert "APIError" in seen["kinds"]
    assert "provider was lost" in seen["message"]


def test_anthropics_sdk_reads_its_own_shape_of_errors_and_the_requests_id(
    sights_of: SightsOf,
) -> None:
    seen = sights_of("anthropic")["shape"]

    assert ("error", "not_found_error") == (seen["body"]["type"], seen["body"]["error"]["type"])
    assert "not_found_error" == seen["kind"]
    assert seen["request_id"] == seen["body"]["request_id"]


def test_anthropics_sdk_lists_models(sights_of: SightsOf) -> None:
    seen = sights_of("anthropic")["models"]

    assert {"test-model", "unserved-model"} <= {model["id"] for model in seen["models"]}
    assert {("model", "active")} == {(m["type"], m["lifecycle"]) for m in seen["models"]}
    assert "test-model" == seen["one"]


def test_a_server_that_cannot_count_tokens_is_named_as_such(sights_of: SightsOf) -> None:
    seen = sights_of("anthropic")["count"]

    assert "NotFoundError" in seen["kinds"]
    assert "nothing at /v1/messages/count_tokens" in seen["message"]


@pytest.mark.parametrize("provider", ["compatible", "anthropic"])
def test_the_ai_sdk_gets_answers_and_streams(sights_of: SightsOf, provider: str) -> None:
    sights = sights_of("ai-sdk")
    whole, streamed = sights[f"{provider}, whole"], sights[f"{provider}, streamed"]

    assert 16 == len(words(whole["text"]))
    assert whole == streamed
    assert "stop" == whole["finish"]
    assert 8 == sights["embedding"]["length"]


@pytest.mark.parametrize("case", ["unknown", "unknown stream"])
@pytest.mark.parametrize("provider", ["compatible", "anthropic"])
def test_the_ai_sdk_shows_why_it_was_refused(sights_of: SightsOf, provider: str, case: str) -> None:
    error = sights_of("ai-sdk")[f"{provider}, {case}"]["error"]

    assert ("AI_APICallError", 404) == (error["kind"], error["status"])
    assert "no-such-model" in error["message"]
