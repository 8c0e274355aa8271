"""An OpenAI-compatible server that answers by rote, and goes wrong in the ways that real ones rarely do."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from harness.backends.local.loading import load_tokenizer
from harness.variants.model import Variant

TINY = Path(__file__).resolve().parents[3] / "finetune" / "tiny" / "base"
MODEL = "deployed"
REPLY = "Drink water and rest."
ALL = frozenset({"ids", "text", "chat", "extended", "prompt_logprobs", "echo", "models", "usage"})

Fault = Callable[[BaseHTTPRequestHandler], None]


@cache
def tokenizer() -> Any:
    """Return the tokenizer that servers and variants have in common."""
    return load_tokenizer(str(TINY))


def logprob(token: int) -> float:
    """What the server finds each token of a prompt to be worth: a number that tells them apart."""
    return -1.0 - token / 4096


@dataclass
class ScriptedServer:
    """``able`` is what it understands. ``faults`` answer requests in its place, one each; ``always`` answers all."""

    able: frozenset[str] = ALL
    models: list[dict[str, Any]] = field(default_factory=lambda: [{"id": MODEL, "max_model_len": 384}])
    faults: list[Fault] = field(default_factory=list)
    always: Fault | None = None
    changes: Callable[[dict[str, Any]], None] = lambda answer: None  # to each answer
    delay: float = 0.0
    pause: float = 0.0  # between the events of a stream
    ending: bytes = b"data: [DONE]\n\n"
    asked: list[dict[str, Any]] = field(default_factory=list)  # the body of every completion asked for
    headers: list[Mapping[str, str]] = field(default_factory=list)
    at_once: int = 0  # the most completions that were under way at the same time
    url: str = ""

    def __post_init__(self) -> None:
        self.tokenizer: Any = tokenizer()
        self._now = 0
        self._lock = threading.Lock()

    @property
    def dialogues_asked(self) -> list[dict[str, Any]]:
        """The requests that were no probes: those ask for one or two tokens of a reply to one prompt."""
        return [body for body in self.asked if "7 with a fever of 39.5" not in self.text_of(body)]

    def text_of(self, body: Mapping[str, Any]) -> str:
        """Return the prompt of a request as text."""
        prompt = body.get("prompt", "")
        if isinstance(prompt, list):
            return str(self.tokenizer.decode(prompt))
        return str(prompt) or json.dumps(body.get("messages"), ensure_ascii=False)

    def answer(self, handler: BaseHTTPRequestHandler, body: dict[str, Any] | None) -> None:
        with self._lock:
            self.headers.append(dict(handler.headers))
            if body is not None:
                self.asked.append(body)
            fault = self.always or (self.faults.pop(0) if self.faults else None)
            self._now += body is not None
            self.at_once = max(self.at_once, self._now)
        try:
            time.sleep(self.delay)
            if fault is not None:
                fault(handler)
            elif body is None:
                found = {"object": "list", "data": self.models}
                send(handler, 200 if "models" in self.able else 500, found if "models" in self.able else {})
            else:
                status, answer = self._complete(handler.path, body)
                if status == 200 and body.get("stream"):
                    self._stream(handler, answer)
                else:
                    send(handler, status, answer)
        finally:
            with self._lock:
                self._now -= body is not None

    def _complete(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        form = "chat" if path.endswith("/chat/completions") else "ids" if isinstance(body["prompt"], list) else "text"
        if form not in self.able:
            return 404 if form == "chat" else 400, {"error": {"message": f"no {form} here"}}
        if "extended" not in self.able and {"top_k", "return_token_ids", "prompt_logprobs"} & set(body):
            return 422, {"detail": "Unexpected fields in the request"}
        if body["model"] != MODEL:
            return 404, {"error": {"message": f"The model {body['model']} does not exist."}}
        ids = self._ids(form, body)
        reply = self.tokenizer(REPLY, add_special_tokens=False)["input_ids"]
        if body.get("ignore_eos"):
            reply = reply * body["max_tokens"]
        reply = reply[: body["max_tokens"]]
        whole = len(reply) < body["max_tokens"]
        text = self.tokenizer.decode(reply)
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop" if whole else "length"}
        choice |= {"message": {"content": text}} if form == "chat" else {"text": text}
        if body.get("return_token_ids"):
            choice |= {"token_ids": reply + [self.tokenizer.eos_token_id] * whole, "prompt_token_ids": ids}
        if "prompt_logprobs" in body and "prompt_logprobs" in self.able:
            choice["prompt_logprobs"] = [None, *({str(token): {"logprob": logprob(token)}} for token in ids[1:])]
        if body.get("echo") and "echo" in self.able:
            scored = [None, *map(logprob, ids[1:]), *[-0.5] * body["max_tokens"]]
            choice["logprobs"] = {"token_logprobs": scored}
        answer = {"object": "text_completion", "choices": [choice]}
        if "usage" in self.able:
            answer["usage"] = {"prompt_tokens": len(ids)}
        self.changes(answer)
        return 200, answer

    def _stream(self, handler: BaseHTTPRequestHandler, answer: dict[str, Any]) -> None:
        """Send the reply in events of two tokens each, ``pause`` seconds apart, and then what ``ending`` has."""
        choice = answer["choices"][0]
        chat, named = "message" in choice, choice.get("token_ids")
        whole = choice["message"]["content"] if chat else choice["text"]
        tokens = named or self.tokenizer(whole, add_special_tokens=False)["input_ids"]
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("connection", "close")
        handler.end_headers()
        for start in range(0, len(tokens), 2):
            part = tokens[start : start + 2]
            before, now = (self.tokenizer.decode(tokens[:end]) for end in (start, start + 2))
            said = now[len(before) :]
            piece: dict[str, Any] = {"delta": {"content": said}} if chat else {"text": said}
            event = {"choices": [{**piece, **({"token_ids": part} if named else {})}]}
            handler.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
            handler.wfile.flush()
            time.sleep(self.pause)
        handler.wfile.write(self.ending)
        handler.close_connection = True

    def _ids(self, form: str, body: dict[str, Any]) -> list[int]:
        if form == "ids":
            return list(body["prompt"])
        text = body["prompt"] if form == "text" else "<|user|>" + body["messages"][-1]["content"]
        return list(self.tokenizer(text)["input_ids"])

    @contextmanager
    def running(self) -> Iterator[ScriptedServer]:
        """Serve at a free port of the loopback address."""
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # or small events wait for each other

            def do_GET(self) -> None:
                scripted.answer(self, None)

            def do_POST(self) -> None:
                scripted.answer(self, json.loads(self.rfile.read(int(self.headers["content-length"]))))

            def log_message(self, *_: Any) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}/v1"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def send(handler: BaseHTTPRequestHandler, status: int, answer: Any, **headers: str) -> None:
    """Answer with JSON."""
    raw(handler, status, json.dumps(answer).encode(), **headers)


def raw(handler: BaseHTTPRequestHandler, status: int, content: bytes, **headers: str) -> None:
    """Answer with these bytes."""
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("content-length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def answering(status: int, answer: Any = None, **headers: str) -> Fault:
    """Return a fault with this status, body and headers."""
    return lambda handler: send(handler, status, answer if answer is not None else {}, **headers)


def half_a_line(handler: BaseHTTPRequestHandler) -> None:
    raw(handler, 200, b'{"choices": [{"text": "Drink wa')


def breaking_off(handler: BaseHTTPRequestHandler) -> None:
    """Promise more than is sent, and hang up."""
    handler.send_response(200)
    handler.send_header("content-length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices"')
    handler.close_connection = True


def hanging_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


def stalled(handler: BaseHTTPRequestHandler) -> None:
    """Send nothing for longer than tests wait."""
    time.sleep(1.5)
    handler.close_connection = True


def served(url: str, **changes: Any) -> Variant:
    """Return a variant served at an address."""
    return Variant(
        **{"name": "served", "kind": "endpoint", "url": url, "model": MODEL, "tokenizer": str(TINY)} | changes
    )
