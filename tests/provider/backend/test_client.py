from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from inferline.fleet.enrolment import OfferedModel
from inferline_provider.backend import client, trials
from inferline_provider.faults import BadAnswer, Fault, KeyRefused, Unlisted, Unreachable
from inferline_provider.settings import root_of
from tests.support.backend import Backend, serving

VLLM = """\
# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="16",cache_dtype="auto",num_gpu_blocks="%s"} 1.0
vllm:num_requests_running{model_name="m"} 0.0
"""
#: Two engines of a vLLM 0.32, of what each tells: its own cache, and the blocks of both.
VLLM_032 = "".join(
    f'vllm:cache_config_info{{block_size="16",engine="{engine}",kv_cache_max_concurrency="32.0",'
    'kv_cache_size_tokens="65536",num_gpu_blocks="8192"} 1.0\n'
    for engine in range(2)
)
#: The same in its development mode.
SERVER_INFO = {
    "vllm_config": {
        "scheduler_config": {"max_num_seqs": 6, "max_num_active_seqs": None},
        "parallel_config": {"data_parallel_size": 2},
    }
}


@asynccontextmanager
async def backend_of(routes: dict[str, Any], base: str = "") -> AsyncIterator[client.BackendClient]:
    """Serve a backend with these answers to GETs, or other methods: a status, a text or JSON."""

    def route(path: str) -> Any:
        async def get(request: web.Request) -> web.Response:
            answer = routes[path]
            if isinstance(answer, int):
                return web.Response(status=answer, headers={"location": "/elsewhere"})
            return (
                web.Response(text=answer) if isinstance(answer, str) else web.json_response(answer)
            )

        return get

    app = web.Application()
    for path in routes:
        method, _, rest = path.rpartition(" ")
        app.router.add_route(method or "GET", rest, route(path))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        root = root_of(f"http://127.0.0.1:{runner.addresses[0][1]}{base}")
        async with client.BackendClient(root) as opened:
            yield opened
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("entry", "length"),
    [
        ({"max_model_len": 4096}, 4096),
        ({"meta": {"n_ctx": 512, "n_ctx_train": 2048}}, 512),
        ({"meta": {"n_ctx_train": 2048}}, 2048),
        ({"context_length": 8}, 8),
        ({"context_window": 2048, "max_context_window": 4096}, 2048),  # fastllm
        ({"max_context_length": 32768, "loaded_context_length": 4096}, 4096),  # LM Studio
        ({"max_input_tokens": 1000, "max_total_tokens": 3000}, 3000),
        ({"n_ctx": 0, "max_input_tokens": 512}, 512),
        ({"limits": {"max_context_length": 64}}, 64),
        ({"permission": [{"n_ctx": 3}]}, None),
        ({"max_model_len": None, "meta": None}, None),
        ({"max_model_len": "many"}, None),
    ],
)
async def test_the_context_length_is_read_where_each_server_tells_it(
    entry: dict[str, Any], length: int | None
) -> None:
    async with backend_of({"/v1/models": {"data": [{"id": "m", **entry}]}}) as backend:
        (model,) = await backend.models()

        assert (model.id, model.context_length) == ("m", length)


async def test_odd_entries_of_the_list_do_no_harm() -> None:
    odd = [None, {}, {"id": ""}, {"id": 7}, {"id": "m", "created": -1, "owned_by": None}]
    async with backend_of({"/v1/models": {"data": odd}}) as backend:
        (model,) = await backend.models()

        assert (model.id, model.created, model.owned_by) == ("m", 0, "inferline")


@pytest.mark.parametrize("listed", [["m"], {"data": ["m"]}])
async def test_a_list_may_be_one_of_names(listed: Any) -> None:
    async with backend_of({"/v1/models": listed}) as backend:
        (model,) = await backend.models()

    assert ("m", "inferline") == (model.id, model.owned_by)


@pytest.mark.parametrize("odd", [True, -1, 10**40, 1.5, "5"])
async def test_no_number_of_a_backend_keeps_its_models_out(odd: Any) -> None:
    entry = {"id": "m", "created": odd, "max_model_len": odd}
    async with backend_of({"/v1/models": {"data": [entry]}}) as backend:
        (model,) = await backend.models()

    assert OfferedModel(id="m") == OfferedModel.model_validate(model.model_dump())


@pytest.mark.parametrize("answer", [500, 302, "<html>", {"models": []}, []])
async def test_no_list_of_models_is_a_fault(answer: Any) -> None:
    async with backend_of({"/v1/models": answer}) as backend:
        with pytest.raises(BadAnswer):
            await backend.models()


@pytest.mark.parametrize(
    "routes",
    [
        {"/models": {"data": [{"id": "m"}]}},
        {"/v1/models": 302, "/models": {"data": [{"id": "m"}]}},
        {"/v1/models": 405, "/models": {"data": [{"id": "m"}]}},
        {"/v1/models": "<html>", "/models": [{"id": "m"}]},
    ],
)
async def test_tasks_go_to_the_prefix_at_which_the_models_are(routes: dict[str, Any]) -> None:
    async with backend_of({**routes, "POST /embeddings": {"data": []}}) as backend:
        (model,) = await backend.models()

        async with backend.post("/v1/embeddings", b"{}", 5) as response:
            assert ("m", 200) == (model.id, response.status)
        async with backend.post("/tokenize", b"{}", 5) as response:
            assert 404 == response.status


async def test_a_server_that_moves_its_routes_is_found_again() -> None:
    routes: dict[str, Any] = {"/v1/models": {"data": [{"id": "m"}]}, "/models": 404}
    async with backend_of(routes) as backend:
        await backend.models()
        routes.update({"/v1/models": 404, "/models": {"data": [{"id": "moved"}]}})

        assert ["moved"] == [model.id for model in await backend.models()]


@pytest.mark.parametrize("prefix", ["/v1", ""])
async def test_without_a_list_tasks_go_where_there_is_a_route_for_them(prefix: str) -> None:
    async with backend_of({f"POST {prefix}/chat/completions": {"choices": []}}) as backend:
        with pytest.raises(Unlisted):
            await backend.models()

        async with backend.post("/v1/chat/completions", b"{}", 5) as response:
            assert 200 == response.status


async def test_a_base_address_may_have_any_path() -> None:
    routes = {"/api/v3/models": {"data": [{"id": "m"}]}, "POST /api/v3/completions": {}}
    async with backend_of(routes, "/api/v3/") as backend:
        (model,) = await backend.models()

        async with backend.post("/v1/completions", b"{}", 5) as response:
            assert ("m", 200) == (model.id, response.status)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_list_that_needs_another_key_says_so(status: int) -> None:
    async with backend_of({"/v1/models": status}) as backend:
        with pytest.raises(KeyRefused):
            await backend.models()


@pytest.mark.parametrize(
    ("routes", "healthy"),
    [
        ({"/health": 200}, True),
        ({"/health": 503}, False),
        ({"/health": 401}, False),
        ({"/v1/models": 500}, True),
        ({}, True),
    ],
)
async def test_health_is_what_the_backend_says_or_that_it_says_anything(
    routes: dict[str, Any], healthy: bool
) -> None:
    async with backend_of(routes) as backend:
        assert healthy is await is_well(backend)


async def is_well(backend: client.BackendClient) -> bool:
    """Say whether a backend passes its check."""
    try:
        await backend.check()
    except Fault:
        return False
    return True


async def test_nobody_there_is_not_healthy() -> None:
    async with client.BackendClient("http://127.0.0.1:9") as backend:
        assert not await is_well(backend)


@pytest.mark.parametrize(
    ("routes", "slots", "most"),
    [
        ({"/props": {"total_slots": 7}}, 7, 7),
        ({"/props": {"total_slots": 0}}, 1, 1),
        ({"/props": 404, "/metrics": VLLM % 2560}, 10, None),
        ({"/metrics": VLLM % 1_000_000}, 256, None),
        ({"/metrics": VLLM_032}, 32, None),
        ({"/server_info": SERVER_INFO, "/metrics": VLLM_032}, 12, 12),
        ({"/server_info": {"vllm_config": "max_num_seqs=9"}, "/metrics": VLLM_032}, 32, None),
        ({"/metrics": VLLM % 1}, 1, None),
        ({"/metrics": VLLM % "None"}, 1, None),
        ({"/props": {}, "/metrics": "x 1"}, 1, None),
        ({}, 1, None),
    ],
)
async def test_slots_are_what_the_backend_lets_us_know(
    routes: dict[str, Any], slots: int, most: int | None
) -> None:
    async with backend_of(routes) as backend:
        result = await backend.room()

    assert (slots, most) == (result.slots, result.most)


@pytest.mark.parametrize(
    ("metrics", "waiting"),
    [
        (VLLM % 1, None),
        (404, None),
        ('vllm:num_requests_waiting{engine="0",model_name="m"} 3.0\n', 3),
        ('vllm:num_requests_waiting{engine="0"} 3.0\nvllm:num_requests_waiting{engine="1"} 2.0', 5),
        ('vllm:num_requests_waiting_by_reason{reason="capacity"} 3.0\n', None),
        ("# TYPE llamacpp:requests_deferred gauge\nllamacpp:requests_deferred 2\n", 2),
        ("llamacpp:requests_deferred 1e999\n", None),
        ("llamacpp:requests_deferred 1.2.3\n", None),
    ],
)
async def test_how_many_tasks_wait_inside_is_read_where_each_server_tells_it(
    metrics: Any, waiting: int | None
) -> None:
    async with backend_of({"/metrics": metrics}) as backend:
        assert await backend.waiting() == waiting


@pytest.mark.parametrize(
    ("routes", "works"),
    [
        ({}, False),
        ({"/metrics": 'vllm:num_requests_running{engine="0",model_name="m"} 1.0\n'}, True),
        ({"/metrics": "vllm:num_requests_running 0.0\nvllm:num_requests_waiting 2.0\n"}, True),
        ({"/metrics": "vllm:num_requests_running 0.0\nvllm:num_requests_waiting 0.0\n"}, False),
        ({"/metrics": "llamacpp:requests_processing 1\n"}, True),
        ({"/metrics": 'sglang:num_running_reqs{model_name="m"} 2.0\n'}, True),
        ({"/metrics": 501, "/slots": [{"id": 0, "is_processing": True}]}, True),
        ({"/metrics": 501, "/slots": [{"id": 0, "is_processing": False}]}, False),
        ({"/metrics": 501, "/slots": {"error": {"code": 501}}}, False),
        ({"/metrics": "llamacpp:requests_processing 0\n", "/slots": [1]}, False),
    ],
)
async def test_whether_it_works_is_read_where_each_server_tells_it(
    routes: dict[str, Any], works: bool
) -> None:
    async with backend_of(routes) as backend:
        assert works is await backend.works()


async def test_a_server_that_does_not_say_in_time_whether_it_works_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def late(*_: object) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    monkeypatch.setattr(client, "WORKING_SECONDS_MAX", 0.05)
    monkeypatch.setattr(Backend, "_metrics", late)
    async with (
        serving(Backend()) as port,
        client.BackendClient(f"http://127.0.0.1:{port}") as backend,
    ):
        assert not await backend.works()


async def test_of_a_server_that_is_not_there_nothing_says_that_it_works() -> None:
    async with client.BackendClient("http://127.0.0.1:9") as backend:
        assert [False, False] == await asyncio.gather(backend.works(), backend.works())


async def test_the_scripted_backend_tells_of_itself() -> None:
    scripted = Backend(models=["a", "b"], slots=3)
    async with (
        serving(scripted) as port,
        client.BackendClient(f"http://127.0.0.1:{port}") as backend,
    ):
        assert [model.id for model in await backend.models()] == ["a", "b"]
        assert (await backend.room()).slots == 3
        assert await backend.waiting() == 0
        assert await is_well(backend)


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("http://h:1", "http://h:1"),
        ("http://h:1/", "http://h:1"),
        ("http://h:1/v1", "http://h:1"),
        ("https://h/openai/v1/", "https://h/openai"),
        ("http://[::1]:8001/v1", "http://[::1]:8001"),
        ("http://h/api/v3", "http://h/api/v3"),
        ("https://h/v1beta/openai/", "https://h/v1beta/openai"),
    ],
)
def test_an_address_may_end_with_v1(url: str, root: str) -> None:
    assert root_of(url) == root


@pytest.mark.parametrize(
    "url", ["", "h:1", "ftp://h", "file:///etc/passwd", "http://", "http://u:p@h", "http://h?x=1"]
)
def test_only_a_plain_http_address_is_one(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        root_of(url)


async def test_a_path_can_not_lead_to_another_host() -> None:
    async with client.BackendClient("http://127.0.0.1") as backend:
        with pytest.raises(BadAnswer):
            async with backend.post("@evil.example/v1", b"{}", 5):
                pass


CONTINUE = {"continue_final_message": True, "add_generation_prompt": False}


async def prefill_of(
    server: Backend, text: str = "Once", shape: object = None
) -> dict[str, bool] | None:
    """Try to continue at a scripted server, which must not generate anything."""
    async with serving(server) as port, client.BackendClient(f"http://127.0.0.1:{port}") as backend:
        result = await backend.prefill("test-model", text, shape)
    assert not server.calls["/v1/chat/completions"]
    return result


@pytest.mark.parametrize("text", ["Once", "Once ", "Once\n\n"])
async def test_a_llama_cpp_continues_a_chat_that_ends_with_an_answer(text: str) -> None:
    assert {} == await prefill_of(Backend(), text)


@pytest.mark.parametrize(("shape", "fields"), [({"enable_thinking": False}, {}), (None, None)])
async def test_a_model_that_thinks_is_continued_only_when_it_is_told_not_to(
    shape: object, fields: dict[str, bool] | None
) -> None:
    server = Backend()
    server.thinks = True

    assert fields == await prefill_of(server, shape=shape)


@pytest.mark.parametrize("text", ["Once", "Once ", "Once\n\n"])
async def test_a_vllm_continues_a_chat_when_it_is_told_to(text: str) -> None:
    server = Backend()
    server.vllm = str

    assert CONTINUE == await prefill_of(server, text)


@pytest.mark.parametrize(("text", "fields"), [("Once", CONTINUE), ("Once ", None)])
async def test_a_template_that_drops_the_last_spaces_continues_only_what_has_none(
    text: str, fields: dict[str, bool] | None
) -> None:
    server = Backend()
    server.vllm = str.strip

    assert fields == await prefill_of(server, text)


async def test_a_template_that_drops_the_answer_continues_nothing() -> None:
    server = Backend()
    server.vllm = lambda said: said.replace(trials.BEGUN, "")

    assert await prefill_of(server) is None


async def test_a_server_that_overlooks_the_fields_continues_nothing() -> None:
    server = Backend()
    server.vllm = str
    server.unknown = frozenset(CONTINUE)

    assert await prefill_of(server) is None


async def test_a_server_that_knows_no_such_route_continues_nothing() -> None:
    server = Backend()
    server.continues = False

    assert await prefill_of(server) is None
    async with backend_of({}) as backend:
        assert await backend.prefill("test-model", "Once") is None
        assert await backend.count_tokens("test-model", "Once") is None


async def test_a_server_that_can_continue_is_asked_again_only_later() -> None:
    server = Backend()
    async with serving(server) as port, client.BackendClient(f"http://127.0.0.1:{port}") as backend:
        assert await backend.can_continue("test-model", None)
        server.continues = False

        assert await backend.can_continue("test-model", None)
        assert not await backend.can_continue("test-model", {"enable_thinking": False})

        backend.has_health = False
        assert not await backend.can_continue("test-model", None)


async def test_of_a_server_that_is_not_there_nothing_is_said() -> None:
    async with client.BackendClient("http://127.0.0.1:9") as backend:
        with pytest.raises(Unreachable):
            await backend.prefill("test-model", "Once")
        with pytest.raises(Unreachable):
            await backend.count_tokens("test-model", "Once")
