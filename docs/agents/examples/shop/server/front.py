"""The shop, over HTTP: `python server/front.py PORT`.

`/health` answers at once, `/report` takes a tenth of a second, `/stock` asks the store and never asks again.
"""

import json
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

OPENAPI = {
    "openapi": "3.0.3",
    "info": {"title": "shop", "version": "1.0"},
    "paths": {
        "/health": {"get": {"responses": {"200": {"description": "It is well."}}}},
        "/orders/{number}": {
            "get": {
                "parameters": [
                    {"name": "number", "in": "path", "required": True, "schema": {"type": "integer"}}
                ],
                "responses": {"200": {"description": "An order."}, "404": {"description": "There is none."}},
            }
        },
    },
}


def add_up():
    time.sleep(0.1)


class Front(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = self.path.partition("?")[0]
        if path == "/openapi.json":
            self.answer(200, OPENAPI)
        elif path == "/health":
            self.answer(200, {"well": True})
        elif path == "/report":
            add_up()
            self.answer(200, {"sum": 3})
        elif path == "/stock":
            self.stock()
        elif path.startswith("/orders/"):
            self.order(path.rpartition("/")[2])
        else:
            self.answer(404, {})

    def stock(self):
        try:
            with urllib.request.urlopen("http://127.0.0.1:5001/", timeout=1) as answer:
                self.answer(200, json.load(answer))
        except OSError:
            self.answer(503, {})

    def order(self, number):
        if not number.lstrip("-").isdigit():
            self.answer(404, {})
        elif int(number) < 0:
            self.answer(500, {"error": "IndexError"})  # nobody thought of these
        else:
            self.answer(200, {"number": int(number)})

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Front).serve_forever()
