"""Nothing is sent to tracing or telemetry servers unless the user asks, shown by a server that listens."""

import http.server
import os
import subprocess
import sys
import threading

import pytest

TRACED = """
import sys
from utilities.quiet import silence
silence(trace=sys.argv[1] == "loud")
from langchain_core.language_models.fake_chat_models import FakeListChatModel
FakeListChatModel(responses=["yes"]).invoke("secret question")
from langchain_core.tracers.langchain import get_client, wait_for_all_tracers
wait_for_all_tracers()
if sys.argv[1] == "loud":
    get_client().flush()
"""
COUNTED = """
import sys
from utilities.quiet import silence
if sys.argv[1] == "quiet":
    silence()
from huggingface_hub.utils import _telemetry, send_telemetry
send_telemetry("examples", library_name="x")
_telemetry._TELEMETRY_QUEUE.join()
"""
TRACING = {"LANGSMITH_TRACING": "true", "LANGCHAIN_TRACING_V2": "true", "LANGSMITH_API_KEY": "k"}
ADDRESSES = ("LANGSMITH_ENDPOINT", "LANGCHAIN_ENDPOINT", "HF_ENDPOINT")
OFF = {"HF_HUB_DISABLE_TELEMETRY", "HF_HUB_OFFLINE", "DO_NOT_TRACK", "DISABLE_TELEMETRY"}
"""Variables that would keep the library silent by themselves."""


@pytest.mark.parametrize("given", ["quiet", "loud"])
@pytest.mark.parametrize("code", [TRACED, COUNTED], ids=["langsmith", "hub"])
def test_nothing_is_sent_unless_asked(code, given):
    heard = []

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers.get("content-length") or 0))
            heard.append(self.path)
            self.send_response(202)
            self.send_header("content-length", "0")
            self.end_headers()

        do_GET = do_PATCH = do_HEAD = do_POST

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        kept = {name: value for name, value in os.environ.items() if name not in OFF}
        environment = {**kept, **TRACING, **dict.fromkeys(ADDRESSES, url), "NO_PROXY": "*"}
        subprocess.run([sys.executable, "-c", code, given], env=environment, check=True, timeout=280)
        server.shutdown()
        thread.join()
    assert bool(heard) == (given == "loud"), heard
