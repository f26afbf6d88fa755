from __future__ import annotations

import json

import pytest

from inferline_provider.backend.classification import Finish, classify_response, usage_of
from inferline_provider.faults import (
    BackendAnswer,
    BadAnswer,
    Busy,
    CannotContinueHere,
    Fault,
    KeyRefused,
)
from inferline_provider.serve.next_step import Circumstances, HandBack, next_step

ERROR = json.dumps({"error": {"message": "m", "type": "t", "param": None, "code": "c"}}).encode()
#: Hand-backs of attempts that do not count.
AT_ONCE = HandBack(counts=False)
LATER = HandBack(counts=False, delay_seconds=9)


def answer(status: int, body: bytes = ERROR) -> BackendAnswer:
    return BackendAnswer(status, "application/json", body)


@pytest.mark.parametrize("status", [400, 402, 404, 409, 413, 422, 451, 501])
@pytest.mark.parametrize("body", [ERROR, b'{"detail": [1]}', b"[]"])
def test_an_answer_about_the_request_is_told_as_it_is(status: int, body: bytes) -> None:
    assert classify_response(answer(status, body)) == answer(status, body)


@pytest.mark.parametrize("body", [b"<html>no</html>", b"", b'{"half":'])
def test_a_refusal_that_is_no_json_is_told_as_an_error_that_clients_can_read(body: bytes) -> None:
    reply = classify_response(BackendAnswer(404, "text/html", body))

    assert (reply.status, reply.content_type) == (404, "application/json")
    assert json.loads(reply.body)["error"]["code"] == "backend_refused"


def test_an_error_with_other_fields_beside_it_is_an_error_too() -> None:
    body = json.dumps({"error": {"message": "m", "code": 404}, "user_id": "u"}).encode()

    assert classify_response(answer(200, body)) == answer(404, body)


@pytest.mark.parametrize(
    "document",
    [
        {"object": "error", "message": "m", "code": 404},
        {"type": "error", "message": "m", "status": 404},
        {"error": "m", "code": "404"},
        {"error": ["m"], "type": "NotFoundError"},
        {"detail": "m", "status_code": 404},
        {"choices": [], "error": {"msg": "m", "code": 404}},
        [{"error": {"message": "m", "status": 404}}],
    ],
)
def test_an_error_in_another_form_is_told_in_openais(document: object) -> None:
    reply = classify_response(answer(200, json.dumps(document).encode()))

    assert (404, "application/json") == (reply.status, reply.content_type)
    error = json.loads(reply.body)["error"]
    assert "m" == error["message"]
    assert {"message", "type", "param", "code"} <= error.keys()


def test_a_failure_in_another_form_is_told_in_openais() -> None:
    with pytest.raises(BadAnswer) as broken:
        classify_response(answer(500, b'{"detail":"no memory"}'))

    assert broken.value.answer is not None
    assert "no memory" == json.loads(broken.value.answer.body)["error"]["message"]


def test_a_result_with_an_error_beside_it_is_a_result() -> None:
    body = json.dumps({"error": {"message": "cut"}, "output": [], "status": "failed"}).encode()

    assert classify_response(answer(200, body)) == answer(200, body)


@pytest.mark.parametrize("status", [300, 302, 408, 500, 502, 504, 599])
def test_a_failure_of_the_backend_may_be_mended_by_another_attempt(status: int) -> None:
    with pytest.raises(BadAnswer):
        classify_response(answer(status))


@pytest.mark.parametrize("body", [b"", b"  ", b"<html>", b'{"a":', b"{" * 300_000])
def test_a_success_without_json_is_a_failure(body: bytes) -> None:
    with pytest.raises(BadAnswer):
        classify_response(answer(200, body))


def test_a_large_success_is_only_looked_at() -> None:
    body = b'{"data": [' + b"0," * 300_000 + b"0]}"

    assert classify_response(answer(200, body)).body is body


@pytest.mark.parametrize(("code", "status"), [(400, 400), (404, 404)])
def test_a_success_around_an_error_is_that_error(code: int, status: int) -> None:
    body = json.dumps({"error": {"message": "m", "code": code}}).encode()

    assert classify_response(answer(200, body)) == answer(status, body)


@pytest.mark.parametrize("code", [None, "bad", 200, 700])
def test_an_error_without_a_status_is_a_failure(code: object) -> None:
    with pytest.raises(BadAnswer):
        classify_response(
            answer(200, json.dumps({"error": {"message": "m", "code": code}}).encode())
        )


def test_an_answer_with_an_error_among_other_things_is_an_answer() -> None:
    body = b'{"id": "x", "error": null, "output": []}'

    assert classify_response(answer(200, body)).status == 200


@pytest.mark.parametrize(("header", "seconds"), [("7", 7), ("0", 1), ("3600", 60), ("soon", None)])
def test_a_busy_backend_says_for_how_long(header: str, seconds: int | None) -> None:
    with pytest.raises(Busy) as busy:
        classify_response(answer(503), {"retry-after": header})

    assert busy.value.retry_after_seconds == seconds


@pytest.mark.parametrize(
    "retry_after",
    [
        {"retry-after": "Tue, 01 Dec 2026 10:00:07 GMT"},
        {"retry-after": "Tue, 01 Dec 2026 10:00:07 -0000"},
        {"retry-after": "Tue, 01 Dec 2026 11:00:07 +0100"},
        {"retry-after": "6.5"},
        {"retry-after-ms": "6100", "retry-after": "30"},
    ],
)
def test_each_form_of_a_time_to_come_back_is_understood(retry_after: dict[str, str]) -> None:
    with pytest.raises(Busy) as busy:
        classify_response(answer(503), {"date": "Tue, 01 Dec 2026 10:00:00 GMT", **retry_after})

    assert busy.value.retry_after_seconds == 7


@pytest.mark.parametrize("retry_after", ["-5", "1e999", "nan", "", "Tue, 99 Dec 2026 10:00:07"])
def test_what_tells_no_time_is_not_taken_for_one(retry_after: str) -> None:
    with pytest.raises(Busy) as busy:
        classify_response(answer(503), {"retry-after": retry_after})

    assert busy.value.retry_after_seconds is None


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "m", "code": "insufficient_quota"}},
        {"error": {"message": "m", "type": "billing_not_active"}},
        {"error": {"message": "m", "type": "exceeded_current_quota_error"}},
        {"code": "insufficient_balance", "message": "m"},
        {"type": "error", "error": {"type": "billing_error", "message": "m"}},
    ],
)
def test_an_account_without_money_is_not_waited_for(body: dict[str, object]) -> None:
    with pytest.raises(Busy) as busy:
        classify_response(answer(429, json.dumps(body).encode()))

    assert busy.value.is_final


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_the_providers_affair(status: int) -> None:
    with pytest.raises(KeyRefused):
        classify_response(answer(status))


def busy(retry_after: int | None = None, *, is_final: bool = False) -> Busy:
    return Busy(retry_after, BackendAnswer(429, "application/json", ERROR), is_final=is_final)


def test_a_busy_backend_costs_no_attempt() -> None:
    assert next_step(busy(9), Circumstances(attempts_left=0)) == HandBack(
        counts=False, delay_seconds=9
    )


def test_a_task_comes_back_after_one_to_five_seconds() -> None:
    for _ in range(50):
        end = next_step(busy(), Circumstances())
        assert isinstance(end, HandBack)
        assert 1 <= end.delay_seconds <= 5


def test_a_task_that_one_backend_refuses_is_at_once_anothers() -> None:
    assert next_step(busy(9), Circumstances(peers=1)) == AT_ONCE


def test_a_task_that_all_backends_have_refused_is_out_of_the_way_for_a_while() -> None:
    assert next_step(busy(9), Circumstances(attempt=2, peers=1)) == HandBack(
        counts=False, delay_seconds=9
    )


@pytest.mark.parametrize(
    ("fault", "refused_seconds"),
    [(busy(), 30.0), (busy(31), None), (busy(20), 10.5), (busy(is_final=True), None)],
)
def test_a_refusal_is_told_once_waiting_is_no_use(
    fault: Busy, refused_seconds: float | None
) -> None:
    end = next_step(fault, Circumstances(refused_seconds=refused_seconds, busy_seconds_max=30.0))

    assert isinstance(end, Finish)
    assert (end.outcome.status, end.rest, end.outcome.error) == (429, ERROR, {})


def test_another_may_have_what_this_server_has_spent() -> None:
    assert next_step(busy(is_final=True), Circumstances(peers=1)) == HandBack(
        counts=False, delay_seconds=0
    )


def test_nobody_waits_longer_than_the_bound() -> None:
    end = next_step(busy(), Circumstances(refused_seconds=29.5, busy_seconds_max=30.0))

    assert end == HandBack(counts=False, delay_seconds=1)


def test_a_refused_key_gives_the_task_to_others_at_once() -> None:
    end = next_step(KeyRefused("r"), Circumstances(attempts_left=1))

    assert end == HandBack(counts=True)


def test_a_refusal_with_a_good_key_is_about_the_request() -> None:
    with pytest.raises(KeyRefused) as refused:
        classify_response(answer(403))
    end = next_step(refused.value, Circumstances(attempts_left=1, has_good_key=True))

    assert isinstance(end, Finish)
    assert (403, {"x-should-retry": "false"}) == (end.outcome.status, end.outcome.headers)
    assert b"scripted" not in end.rest


def test_a_403_is_told_whether_the_key_is_known_to_be_good_or_not() -> None:
    with pytest.raises(KeyRefused) as refused:
        classify_response(answer(403))
    end = next_step(refused.value, Circumstances(attempts_left=1))

    assert isinstance(end, Finish)
    assert 403 == end.outcome.status


@pytest.mark.parametrize("status", [429, 503, 529])
def test_what_says_wait_is_busy_and_no_fault_of_the_request(status: int) -> None:
    with pytest.raises(Busy) as busy:
        classify_response(answer(status, b"<html>"))

    assert busy.value.answer is not None
    kind = json.loads(busy.value.answer.body)["error"]["type"]
    assert kind == ("rate_limit_error" if status == 429 else "server_error")


@pytest.mark.parametrize("status", [302, 600])
def test_a_status_that_is_no_error_is_told_to_nobody(status: int) -> None:
    with pytest.raises(BadAnswer) as broken:
        classify_response(answer(status, ERROR))

    assert broken.value.answer is None


def test_who_says_when_to_come_back_is_not_said_to_be_beyond_help() -> None:
    with pytest.raises(BadAnswer) as broken:
        classify_response(answer(500, ERROR), {"retry-after": "5"})
    broken.value.is_repeated = True
    end = next_step(broken.value, Circumstances(attempts_left=1))

    assert isinstance(end, Finish)
    assert {"retry-after": "5"} == end.outcome.headers


def test_a_failure_that_repeats_is_told_and_that_repeating_does_not_help() -> None:
    with pytest.raises(BadAnswer) as broken:
        classify_response(answer(500))
    broken.value.is_repeated = True

    end = next_step(broken.value, Circumstances(attempts_left=2))

    assert isinstance(end, Finish)
    assert (500, {"x-should-retry": "false"}) == (end.outcome.status, end.outcome.headers)


def test_the_last_attempt_tells_the_backends_own_error() -> None:
    with pytest.raises(BadAnswer) as broken:
        classify_response(answer(500))

    end = next_step(broken.value, Circumstances())

    assert isinstance(end, Finish)
    assert (end.outcome.status, end.rest, end.outcome.error) == (500, ERROR, {})


@pytest.mark.parametrize("fault", [BadAnswer("x"), KeyRefused("secret")])
def test_the_last_attempt_without_an_error_to_tell_fails(fault: Fault) -> None:
    end = next_step(fault, Circumstances())

    assert isinstance(end, Finish)
    assert (end.outcome.error["status"], end.outcome.error["code"]) == (502, "backend_failed")
    assert "secret" not in str(end.outcome.error)


@pytest.mark.parametrize("fault", [BadAnswer("x"), Busy(1), KeyRefused("r")])
def test_an_answer_that_has_begun_and_can_go_on_nowhere_fails(fault: Fault) -> None:
    end = next_step(fault, Circumstances(attempts_left=2, begun=True, stuck=True))

    assert isinstance(end, Finish)
    assert end.outcome.error["code"] == "provider_lost"


@pytest.mark.parametrize(
    ("document", "usage"),
    [
        ({"usage": {"prompt_tokens": 3, "details": {"x": 1}, "ok": 1}}, {"prompt_tokens": 3}),
        ({"usage": {"prompt_tokens": 10**50, "output_tokens": True}}, {}),
        ({"message": {"usage": {"input_tokens": 9}}}, {"input_tokens": 9}),
        ({"response": {"usage": {"input_tokens": 1}}}, {"input_tokens": 1}),
        ({"usage": None}, {}),
        ([], {}),
    ],
)
def test_usage_is_read_where_it_stands(document: object, usage: dict[str, int]) -> None:
    assert usage_of(document) == usage


def test_an_answer_that_has_begun_goes_on_in_another_attempt() -> None:
    end = next_step(BadAnswer("x"), Circumstances(attempts_left=2, begun=True))

    assert isinstance(end, HandBack)
    assert end.counts


def test_of_a_begun_answer_the_last_failure_is_never_told_as_its_end() -> None:
    fault = BadAnswer("x", BackendAnswer(500, "application/json", b"{}"))

    end = next_step(fault, Circumstances(begun=True))

    assert isinstance(end, Finish)
    assert "provider_lost" == end.outcome.error["code"]


def test_what_this_backend_can_not_continue_others_may_at_once() -> None:
    names = frozenset({"p1"})

    end = next_step(CannotContinueHere(""), Circumstances(begun=True, others=1, unfit=names))

    assert end == HandBack(counts=False, unfit=names)


def test_what_no_backend_can_continue_is_lost_at_once() -> None:
    end = next_step(CannotContinueHere(""), Circumstances(begun=True, attempts_left=2, others=0))

    assert isinstance(end, Finish)
    assert "provider_lost" == end.outcome.error["code"]
