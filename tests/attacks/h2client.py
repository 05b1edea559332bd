"""A client of HTTP/2 that sends what it is told to, and keeps what comes by stream. One thread, nothing hidden.

It acknowledges settings and pings, and gives credit back for data unless told not to. Used by the cases of group H2.
"""

import select
import ssl
import struct
import time

import frames
from frames import CODES, Fault
from wire import PATIENCE, Conn


def context(protocols=("h2",)):
    """TLS that believes any certificate; what is asked here is not who answers."""
    found = ssl.create_default_context()
    found.check_hostname, found.verify_mode = False, ssl.CERT_NONE
    found.set_alpn_protocols(list(protocols))
    return found


class Stream:
    """What came on one stream."""

    def __init__(self, ident):
        self.ident, self.status, self.fields, self.trailers, self.interim = ident, None, [], [], []
        self.body, self.size, self.keep, self.ended, self.code = bytearray(), 0, True, False, None

    def done(self):
        return self.ended or self.code is not None

    def header(self, name):
        return next((value for key, value in [*self.fields, *self.trailers] if key == name), None)

    def __repr__(self):
        reset = "" if self.code is None else f" reset {name(self.code)}"
        return f"<stream {self.ident}: {self.status}{reset} ended={self.ended} {self.fields} {bytes(self.body[:100])!r}>"


def name(code):
    return CODES[code] if code < len(CODES) else str(code)


class H2:
    """One connection. `begin=()` sends neither preface nor settings, `window` is the initial one of streams."""

    def __init__(self, port, tls=None, settings=(), begin=True, credit=True, window=None):
        self.conn = Conn(port, tls=tls, name="web.example" if tls else None)
        self.sock = self.conn.sock
        self.sock.setblocking(False)
        self.poll = select.poll()
        self.poll.register(self.sock)
        self.reader, self.out = frames.Reader(), bytearray()
        self.streams, self.next, self.credit = {}, 1, credit
        self.settings, self.acks, self.pongs, self.goaway, self.others = {}, 0, [], None, []
        self.closed, self.broken, self.wrote, self.stuck = False, None, 0, window == 0
        if window is not None:
            settings = [*settings, (frames.INITIAL_WINDOW, window)]
        if begin:
            self.send(frames.PREFACE + frames.settings(*settings))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def over(self):
        """The peer has said or shown that it goes."""
        return self.closed or self.goaway is not None

    def send(self, data):
        """Sends as much as the peer takes at once; the rest goes with the next `pump`."""
        self.out += data
        self.write()

    def write(self):
        while self.out and not self.closed:
            try:
                count = self.sock.send(self.out[:1 << 18])
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                return
            except OSError:
                # What it has sent before it closed can still be read.
                self.out.clear()
                self.broken = self.broken or "it takes no more"
                return
            self.wrote += count
            del self.out[:count]

    def read(self):
        try:
            more = self.sock.recv(1 << 18)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:
            more = b""
        if not more:
            self.closed = True
            return
        for one in self.reader.feed(more):
            self.take(one)

    def pump(self, until, within=PATIENCE):
        """Reads and writes until `until()` or the end of the connection; whether `until()` came true."""
        limit = time.monotonic() + within
        while not until():
            left = limit - time.monotonic()
            if self.closed or left <= 0:
                return False
            pending = self.sock.pending() if isinstance(self.sock, ssl.SSLSocket) else 0
            if not pending:
                self.poll.modify(self.sock, select.POLLIN | (select.POLLOUT if self.out else 0))
                self.poll.poll(min(left, 0.05) * 1000)
            self.write()
            self.read()
        return True

    def take(self, one):
        if one.kind == frames.SETTINGS:
            if one.flags & frames.ACK:
                self.acks += 1
            else:
                self.settings.update(one.pairs())
                self.send(frames.frame(frames.SETTINGS, frames.ACK, 0))
        elif one.kind == frames.PING:
            if one.flags & frames.ACK:
                self.pongs.append(one.payload)
            else:
                self.send(frames.ping(one.payload, frames.ACK))
        elif one.kind == frames.GOAWAY:
            # The first says what was wrong; one of a drain may be followed by another.
            last, code = struct.unpack(">II", one.payload[:8])
            if self.goaway is None or self.goaway[1] == frames.NO_ERROR:
                self.goaway = (last, code, one.payload[8:])
        elif one.stream in self.streams:
            self.stream(self.streams[one.stream], one)
        else:
            self.others.append(one)

    def stream(self, stream, one):
        if stream.ended and one.kind in (frames.HEADERS, frames.DATA):
            raise Fault(f"frame {one.kind} after the end of {stream}")
        if one.kind == frames.HEADERS:
            status = next((value for key, value in one.fields if key == ":status"), None)
            if status is None:
                stream.trailers = one.fields
            elif status.startswith("1"):
                stream.interim.append(int(status))
            else:
                stream.status, stream.fields = int(status), one.fields
        elif one.kind == frames.DATA:
            stream.size += len(one.payload)
            if stream.keep:
                stream.body += one.body()
            if self.credit and one.payload:
                self.send(frames.window_update(0, len(one.payload)))
                if not one.ends():
                    self.send(frames.window_update(stream.ident, len(one.payload)))
        elif one.kind == frames.RST_STREAM:
            stream.code = one.number()
        stream.ended |= one.ends()

    def open(self, block, end=True, pieces=1, ident=None, flags=0):
        """Begins a stream with this block of headers."""
        stream = self.reserve(ident)
        self.send(frames.headers(stream.ident, block, end, pieces, flags))
        return stream

    def reserve(self, ident=None):
        """The next stream, before anything of it is sent."""
        ident = self.next if ident is None else ident
        self.next = max(self.next, ident + 2)
        self.streams[ident] = Stream(ident)
        return self.streams[ident]

    def get(self, authority, path, more=(), method="GET", end=True):
        return self.open(frames.block(frames.request(authority, path, method, more=more)), end)

    def post(self, authority, path, body, more=()):
        stream = self.get(authority, path, more, "POST", end=False)
        self.send(frames.data(stream.ident, body, end=True))
        return stream

    def wait(self, *streams, within=PATIENCE):
        return self.pump(lambda: self.over() or all(stream.done() for stream in streams), within)

    def settle(self, count=1):
        """Waits until the peer has acknowledged so many of our settings, and told its own."""
        return self.pump(lambda: self.acks >= count and self.settings != {})

    def outcome(self, stream=None):
        """How it ended, in words: a GOAWAY, a reset, a status, a close, or nothing."""
        if self.goaway is not None and self.goaway[1] != frames.NO_ERROR:
            return f"GOAWAY {name(self.goaway[1])}"
        if stream is not None and stream.status is not None:
            return str(stream.status)
        if stream is not None and stream.code is not None:
            return f"RST_STREAM {name(stream.code)}"
        if self.goaway is not None:
            return "GOAWAY NO_ERROR"
        return "closed" if self.closed or self.broken else "nothing"

    def end(self, stream=None, within=PATIENCE):
        """Waits for an outcome. After a GOAWAY with an error the rest is not waited for, nor what no window lets come."""
        def ended():
            if stream is not None and (stream.done() or self.stuck and stream.status is not None):
                return True
            return self.goaway is not None
        self.pump(ended, within)
        return self.outcome(stream)

    def flood(self, data, within=30.0, chunk=1 << 16):
        """Sends it all, reading meanwhile, until the peer goes. Returns how many bytes the peer took."""
        before, at, limit = self.wrote, 0, time.monotonic() + within
        while at < len(data) and not self.over() and not self.broken and time.monotonic() < limit:
            self.send(data[at:at + chunk])
            at += chunk
            self.pump(lambda: not self.out or self.over() or bool(self.broken), max(0.0, limit - time.monotonic()))
            self.read()
        if self.broken:
            self.pump(lambda: self.goaway is not None, 1.0)
        return self.wrote - before
