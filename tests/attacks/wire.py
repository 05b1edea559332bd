"""Bytes on a socket: sends them whole or in pieces, reads HTTP/1 responses and requests strictly.

Not a client: nothing here corrects what a case wants to send. Used by the lab and by every group of cases.
"""

import re
import socket
import ssl
import time

PATIENCE = 20.0


class Broken(Exception):
    """What was read is not HTTP, or ended too early."""


class Response:
    """One response: status, header fields in order with names in lower case, body."""

    def __init__(self, status, fields, body, interim=()):
        self.status, self.fields, self.body, self.interim = status, fields, body, interim

    def header(self, name):
        return next((value for key, value in self.fields if key == name), None)

    def all(self, name):
        return [value for key, value in self.fields if key == name]

    def __repr__(self):
        return f"<{self.status} {self.fields} {self.body[:200]!r}>"


class Conn:
    """One connection to the router."""

    def __init__(self, port, timeout=PATIENCE, host="127.0.0.1", tls=None, name=None):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        self.sock.connect((host, port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.sock = tls.wrap_socket(self.sock, server_hostname=name)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, data, piece=0):
        """Sends all of it; in pieces of that many bytes when `piece` is not 0. False: the peer does not take it."""
        try:
            if piece == 0:
                self.sock.sendall(data)
            else:
                for at in range(0, len(data), piece):
                    self.sock.sendall(data[at:at + piece])
            return True
        except (BrokenPipeError, ConnectionResetError, socket.timeout, ssl.SSLError):
            return False

    def more(self):
        """Reads some bytes; False at the end of the stream."""
        try:
            data = self.sock.recv(65536)
        except (ConnectionResetError, ssl.SSLEOFError):
            data = b""
        self.buffer += data
        return bool(data)

    def until(self, mark):
        while mark not in self.buffer:
            if not self.more():
                raise Broken(f"closed after {self.buffer[:300]!r}")
        found, self.buffer = self.buffer.split(mark, 1)
        return found

    def exactly(self, count):
        while len(self.buffer) < count:
            if not self.more():
                raise Broken(f"closed {count - len(self.buffer)} bytes before the end of a body")
        found, self.buffer = self.buffer[:count], self.buffer[count:]
        return found

    def response(self, method="GET"):
        """Reads one final response; raises Broken when there is none, socket.timeout when it does not come."""
        interim = []
        while True:
            status, fields = parse_head(self.until(b"\r\n\r\n"))
            if status < 200 and status != 101:
                interim.append(status)
                continue
            body = b"" if method == "HEAD" or status in (101, 204, 304) else self.body(fields)
            return Response(status, fields, body, interim)

    def body(self, fields):
        codings = [value for key, value in fields if key == "transfer-encoding"]
        lengths = [value for key, value in fields if key == "content-length"]
        if codings == ["chunked"] and not lengths:
            return self.chunks()
        if len(lengths) == 1 and not codings:
            return self.exactly(int(lengths[0]))
        if codings or lengths:
            raise Broken(f"framing in doubt: {fields}")
        while self.more():
            pass
        found, self.buffer = self.buffer, b""
        return found

    def chunks(self):
        body = b""
        while True:
            size = int(self.until(b"\r\n"), 16)
            if size == 0:
                while self.until(b"\r\n"):
                    pass
                return body
            body += self.exactly(size)
            if self.exactly(2) != b"\r\n":
                raise Broken("no CRLF after a chunk")

    def closed(self, within=PATIENCE):
        """Whether the peer closes, sending nothing more."""
        self.sock.settimeout(within)
        try:
            return not self.buffer and not self.more()
        except (socket.timeout, ssl.SSLError):
            return False

    def responses(self, methods, until=None, idle=0.75):
        """Responses until the stream ends, one carries `until` in `x-seen`, or nothing comes for `idle` seconds."""
        found = []
        self.sock.settimeout(idle)
        try:
            while True:
                method = methods[len(found)] if len(found) < len(methods) else "GET"
                found.append(self.response(method))
                if until is not None and found[-1].header("x-seen") == until:
                    return found
        except (Broken, socket.timeout, ssl.SSLError, OSError):
            return found


def parse_head(head):
    lines = head.decode("latin-1").split("\r\n")
    match = re.fullmatch(r"HTTP/1\.[01] (\d{3})( .*)?", lines[0])
    if not match:
        raise Broken(f"no status line: {lines[0][:200]!r}")
    fields = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            raise Broken(f"no field line: {line[:200]!r}")
        fields.append((name.lower(), value.strip(" \t")))
    return int(match.group(1)), fields


def parse_requests(data):
    """The requests in what was sent to a server, strictly: [(method, target, fields, body)], and the rest."""
    found = []
    while b"\r\n\r\n" in data:
        head, rest = data.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        match = re.fullmatch(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (\S+) HTTP/1\.[01]", lines[0])
        if not match:
            break
        fields = [(name.lower(), value.strip(" \t")) for name, _, value in (line.partition(":") for line in lines[1:])]
        body, rest = request_body(fields, rest)
        if body is None:
            break
        found.append((match.group(1), match.group(2), fields, body))
        data = rest
    return found, data


def request_body(fields, rest):
    codings = [value for key, value in fields if key == "transfer-encoding"]
    lengths = [value for key, value in fields if key == "content-length"]
    if len(codings) + len(lengths) > 1 or codings not in ([], ["chunked"]):
        return None, rest
    if lengths:
        if not lengths[0].isdigit() or len(rest) < int(lengths[0]):
            return None, rest
        return rest[:int(lengths[0])], rest[int(lengths[0]):]
    if not codings:
        return b"", rest
    body = b""
    while True:
        line, mark, rest = rest.partition(b"\r\n")
        if not mark or not re.fullmatch(rb"[0-9a-fA-F]{1,16}", line):
            return None, rest
        size = int(line, 16)
        if size == 0:
            break
        body, end, rest = body + rest[:size], rest[size:size + 2], rest[size + 2:]
        if end != b"\r\n":
            return None, rest
    while True:
        line, mark, rest = rest.partition(b"\r\n")
        if not mark:
            return None, rest
        if not line:
            return body, rest


def eventually(what, check, within=PATIENCE):
    """The first true answer of `check`; raises when there is none in time."""
    until = time.monotonic() + within
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > until:
            raise TimeoutError(f"not within {within} s: {what}")
        time.sleep(0.01)
