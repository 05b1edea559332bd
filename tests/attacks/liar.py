"""A service that answers whatever it is told to, and notes whether a connection is used after it lied on it."""

import socket
import threading

GOOD = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood"


class Liar:
    """`tell` says what the next requests are answered with. `reused` holds what came on a connection after a lie."""

    def __init__(self):
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.answer, self.lie, self.close, self.echo = GOOD, False, False, False
        self.reused, self.requests = [], 0
        threading.Thread(target=self.accept, daemon=True).start()

    def tell(self, answer=GOOD, lie=False, close=False, echo=False):
        self.answer, self.lie, self.close, self.echo = answer, lie, close, echo

    def accept(self):
        while True:
            threading.Thread(target=self.serve, args=self.sock.accept()[:1], daemon=True).start()

    def serve(self, sock):
        lied, data = False, b""
        with sock:
            while True:
                while b"\r\n\r\n" not in data:
                    try:
                        more = sock.recv(65536)
                    except OSError:
                        return
                    if not more:
                        return
                    data += more
                    if lied:
                        self.reused.append(data)
                data = data.split(b"\r\n\r\n", 1)[1]
                self.requests += 1
                lied = self.lie
                answer, close, echo = self.answer, self.close, self.echo
                try:
                    sock.sendall(answer)
                    while echo:
                        more = sock.recv(65536)
                        if not more:
                            return
                        sock.sendall(more)
                except OSError:
                    return
                if close:
                    return
