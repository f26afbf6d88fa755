"""instructor, which asks for tools to have an answer of a given form."""

from __future__ import annotations

import instructor
import openai
from asking import BASE_URL, MODEL, PROMPT, Seen, run
from pydantic import BaseModel


class Weather(BaseModel):
    """The weather in a city."""

    city: str


client = instructor.from_openai(
    openai.OpenAI(base_url=BASE_URL, api_key="test", timeout=90), mode=instructor.Mode.TOOLS
)


def ask(model: str = MODEL, **more) -> Seen:
    said = [{"role": "user", "content": PROMPT}]
    got = client.chat.completions.create(
        model=model, messages=said, response_model=Weather, max_retries=0, **more
    )
    return {"text": got.city, "tool": True}


run({"tools": ask, "error": lambda: ask("no-such-model")})
