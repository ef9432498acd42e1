"""Nothing is sent to tracing servers unless the user asks, shown by a server that listens."""

import http.server
import os
import subprocess
import sys
import threading

import pytest

ASK = """
import os, sys
from utilities.quiet import silence
silence(trace=sys.argv[1] == "trace")
from langchain_core.language_models.fake_chat_models import FakeListChatModel
FakeListChatModel(responses=["yes"]).invoke("secret question")
from langchain_core.tracers.langchain import get_client, wait_for_all_tracers
wait_for_all_tracers()
if sys.argv[1] == "trace":
    get_client().flush()
"""


@pytest.mark.parametrize(("given", "sent"), [("quiet", False), ("trace", True)])
def test_tracing_variables_send_nothing_unless_asked(given, sent):
    bodies = []

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append(self.rfile.read(int(self.headers.get("content-length") or 0)))
            self.send_response(202)
            self.send_header("content-length", "0")
            self.end_headers()

        do_GET = do_PATCH = do_POST

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        asked = {"LANGSMITH_TRACING": "true", "LANGCHAIN_TRACING_V2": "true", "LANGSMITH_API_KEY": "k"}
        environment = {**os.environ, **asked, "LANGSMITH_ENDPOINT": url, "LANGCHAIN_ENDPOINT": url, "NO_PROXY": "*"}
        subprocess.run([sys.executable, "-c", ASK, given], env=environment, check=True, timeout=280)
        server.shutdown()
        thread.join()
    assert bool(bodies) == sent
