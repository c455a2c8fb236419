"""Small HTTP servers, as the sources of programs that planted projects start."""

from __future__ import annotations

WEB = '''
"""Paths: `/fast`; `/slow` waits 0.1 s; of `/broken` every tenth request fails; `/away` goes elsewhere."""
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COUNT = 0
LOCK = threading.Lock()


def slow():
    time.sleep(0.1)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        global COUNT
        status = 200
        if self.path == "/slow":
            slow()
        elif self.path == "/broken":
            with LOCK:
                COUNT += 1
                status = 500 if COUNT % 10 == 0 else 200
        elif self.path == "/away":
            status = 302
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "http://127.0.0.1:1/")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
'''

STORE = '''
"""Answers "ok" to each connection's request line; begins to listen after a time."""
import socket
import sys
import time

time.sleep(float(sys.argv[2]) if len(sys.argv) > 2 else 0)
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    connection, _ = server.accept()
    with connection:
        connection.recv(64)
        connection.sendall(b"ok")
'''

FRONT = '''
"""Asks the store at port 5001 for each request, so many times at most; 503 where it gets no answer."""
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def ask(tries):
    for _ in range(tries):
        try:
            with socket.create_connection(("127.0.0.1", 5001), 0.5) as store:
                store.sendall(b"get")
                if store.recv(64) == b"ok":
                    return 200
        except OSError:
            pass
    return 503


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else ask(int(sys.argv[2])))
        self.end_headers()

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
'''

SUPERVISOR = '''
"""Starts the store, and starts it anew when it ends."""
import subprocess
import sys
import time

while True:
    subprocess.call([sys.executable, "store.py", *sys.argv[1:]])
    time.sleep(0.5)
'''
