"""litserve_counter.py PORT: litserve's own OpenAI server; its model counts."""

from __future__ import annotations

import sys
import time

import litserve


class Counter(litserve.LitAPI):
    """Says one number after the other, as a language model says tokens."""

    def setup(self, device: str) -> None:
        pass

    def predict(self, prompt: object):
        for number in range(1, 101):
            time.sleep(0.03)
            yield {"role": "assistant", "content": f" {number}"}


if __name__ == "__main__":
    server = litserve.LitServer(Counter(spec=litserve.OpenAISpec()), accelerator="cpu")
    server.run(port=int(sys.argv[1]), host="127.0.0.1", generate_client_file=False)
