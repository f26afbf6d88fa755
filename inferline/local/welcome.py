"""Proves that an answer comes through all parts, then says how to ask for one."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

from inferline.local import web
from inferline.local.failures import PartFailed
from inferline.local.options import LocalOptions

#: What the model is asked, here and in the examples.
QUESTION = "What is a queue?"
#: How long the first answer may take: a backend of the user's may have to load its model.
FIRST_ANSWER_SECONDS = 180.0
#: How long the built-in LLM may take to be asked and asked again.
BUILT_IN_SECONDS = 30.0


class Welcome:
    """The welcome once all parts are up: a first answer, addresses and examples."""

    def __init__(self, options: LocalOptions, logs: Path, tell: Callable[[str], None]) -> None:
        self._options = options
        self._logs = logs
        self._tell = tell

    async def __call__(self) -> None:
        """
        Ask one real question and print where everything is.

        Raises PartFailed if the built-in LLM does not answer. For a backend of the user's it only
        warns: it may serve no chat at all, and InferLine is up nevertheless.
        """
        name = None
        if not self._options.no_llm:
            name = (await asyncio.to_thread(web.models, self._options.gateway_url))[0]
            await self._prove(name)
        dashboard = f"{self._options.gateway_url}/dashboard"
        link = dashboard if await asyncio.to_thread(web.exists, dashboard) else None
        self._tell(places(self._options, name, self._logs, link))
        if name is not None:
            self._tell(examples(self._options, name))
        self._tell("\nCtrl-C ends everything.")

    async def _prove(self, name: str) -> None:
        begin = time.monotonic()
        while True:
            try:
                text = await asyncio.to_thread(_first_answer, self._options.gateway_url, name)
            except web.NoAnswer as failure:
                if not self._options.built_in:
                    self._tell(f"\nNo answer from {name} yet: {failure}")
                    return
                if time.monotonic() - begin > BUILT_IN_SECONDS:
                    raise PartFailed(
                        f"All parts run, but no answer came: {failure}. Their logs: {self._logs}"
                    ) from failure
                await asyncio.sleep(0.5)
            else:
                took = time.monotonic() - begin
                self._tell(
                    f"  {'answer':<10} {'a chat completion, through all of it':<58} "
                    f"came in  {took:4.1f} s\n\n"
                    f"  {json.dumps(QUESTION)}\n  {json.dumps(text, ensure_ascii=False)}"
                )
                return


def _first_answer(base_url: str, name: str) -> str:
    """Return the model's answer to the question. Raises NoAnswer. Blocking."""
    question = {
        "model": name,
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": 32,
    }
    answer = web.ask(f"{base_url}/v1/chat/completions", question, FIRST_ANSWER_SECONDS)
    try:
        return str(answer["choices"][0]["message"]["content"])
    except (KeyError, IndexError, TypeError) as error:
        raise web.NoAnswer("the answer has no choices") from error


def places(options: LocalOptions, name: str | None, logs: Path, dashboard: str | None) -> str:
    """List where everything is, one line each."""
    rows = {
        "OpenAI base URL": f"{options.gateway_url}/v1",
        "model": name,
        "dashboard": dashboard,
        "AWS emulator": options.emulator_url,
        "logs": logs,
    }
    lines = [f"  {title:<16} {value}" for title, value in rows.items() if value]
    return "\n".join(["\nInferLine is up.", *lines])


def examples(options: LocalOptions, name: str) -> str:
    """Return two commands to paste."""
    base = f"{options.gateway_url}/v1"
    body = {"model": name, "messages": [{"role": "user", "content": QUESTION}]}
    return f"""
Ask it with curl:

  curl -N {base}/chat/completions -H 'content-type: application/json' \\
    -d {_quoted(json.dumps(body | {"stream": True}))}

or with the openai package:

  python - <<'EOF'
  from openai import OpenAI
  client = OpenAI(base_url={json.dumps(base)}, api_key="any")
  answer = client.chat.completions.create(
      model={json.dumps(name)},
      messages=[{{"role": "user", "content": {json.dumps(QUESTION)}}}],
  )
  print(answer.choices[0].message.content)
  EOF"""


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
