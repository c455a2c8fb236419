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
