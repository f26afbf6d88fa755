"""How vLLM makes one text of a chat, as far as it matters whether its last message goes on."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.answers import Json


def rendered(body: Json, content: Callable[[str], str]) -> str:
    """
    Return the text of a chat by a template that makes ``content`` of what each message says.

    A last message that is to go on is found again in it, with the spaces around it or without, as
    transformers does. Raises ValueError in the words of both.
    """
    goes_on, begins = body.get("continue_final_message"), body.get("add_generation_prompt", True)
    if goes_on and begins:
        raise ValueError(
            "Cannot set both `continue_final_message` and `add_generation_prompt` to True."
        )
    messages = body["messages"]
    turns = [f"<|{one['role']}|>\n{content(one['content'])}<|end|>\n" for one in messages]
    text = "".join(turns)
    if not goes_on:
        return text + ("<|assistant|>\n" if begins else "")
    last = messages[-1]["content"]
    if last.strip() not in turns[-1]:
        raise ValueError(
            "continue_final_message is set but the final message does not appear in the chat "
            "after applying the chat template!"
        )
    at = text.rindex(last.strip())
    is_kept = text.startswith(last.lstrip(), at)
    return text[: at + len(last.lstrip() if is_kept else last.strip())]
