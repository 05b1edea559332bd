"""A server made of http.server: logs every request that it sees, reads its body, answers.

Usage: server.py LOG [quiet]. A quiet one sends no 100: HAProxy 2.6 loses the body of an answer that comes with it.
"""

import http.server
import sys

LOG = open(sys.argv[1], "a", buffering=1, encoding="latin-1")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def answer(self):
        LOG.write(f"{self.command} {self.path}\n")
        if not self.read_body():
            LOG.write("BAD body\n")
            self.close_connection = True
            return
        body = b"" if self.command == "HEAD" else b"ok\n"
        self.send_response(503 if "busy" in self.path else 200)
        self.send_header("x-seen", self.path[:200])
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle_expect_100(self):
        return "quiet" in sys.argv or super().handle_expect_100()

    def read_body(self):
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            return self.read_chunks()
        left = int(self.headers.get("content-length", 0))
        while left:
            data = self.rfile.read(min(left, 65536))
            if not data:
                self.close_connection = True
                return True
            left -= len(data)
        return True

    def read_chunks(self):
        while True:
            line = self.rfile.readline(300)
            if not line.endswith(b"\n"):
                self.close_connection = True
                return line == b""
            size = int(line.split(b";")[0], 16)
            if size == 0:
                while self.rfile.readline(9000) not in (b"\r\n", b"\n", b""):
                    pass
                return True
            self.rfile.read(size)
            end = self.rfile.read(2)
            if end != b"\r\n":
                self.close_connection = True
                return end == b""

    def send_error(self, code, message=None, explain=None):
        LOG.write(f"BAD {code} {message}\n")
        super().send_error(code, message, explain)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()
