"""Services behind the router that speak HTTP/2, or HTTP/1 with bodies that do not end, and keep what they are sent.

Both serve on the thread of the relays. What the HTTP/2 one may not be sent is kept as a fault. Used by group H2.
"""

import asyncio
import socket
import struct
import threading
import time

import frames
from frames import Fault

BIG = 64 << 20
ZEROS = bytes(BIG)


class Call:
    """One request as the service got it. `whole`: with its end."""

    def __init__(self, conn, ident, fields):
        self.conn, self.ident, self.fields, self.trailers = conn, ident, fields, []
        self.body, self.whole, self.code, self.lost = bytearray(), False, None, False
        # Of the answer: what the window allows, what is still to be sent, what it ends with.
        self.credit, self.left, self.end, self.answered = 0, b"", (), False

    def get(self, name):
        return next((value for key, value in self.fields if key == name), None)

    @property
    def path(self):
        return self.get(":path") or ""

    def __repr__(self):
        return f"<{self.conn.number}/{self.ident} {self.fields} {bytes(self.body[:60])!r} whole={self.whole} {self.code}>"


class Origin:
    """A recording service. Its port takes connections with prior knowledge only.

    `/hold` is answered never, `/slow` after 100 ms, `/big` with 64 MiB as far as credit goes, `/early` at once, and
    everything else at its end. `on_call` may be set to a function that answers instead.
    """

    def __init__(self, relays, settings=()):
        self.lock, self.calls, self.faults, self.conns, self.number = threading.Lock(), [], [], [], 0
        self.wrote, self.on_call, self.settings, self.total = 0, None, settings, 0
        self.loop = relays.loop
        self.server = asyncio.run_coroutine_threadsafe(
            self.loop.create_server(lambda: Serving(self), "127.0.0.1", 0), self.loop).result()
        self.port = self.server.sockets[0].getsockname()[1]

    def clear(self):
        with self.lock:
            self.calls, self.wrote = [], 0

    def seen(self):
        with self.lock:
            return list(self.calls)

    def paths(self):
        return [call.path for call in self.seen()]

    def open(self):
        """Calls that nobody has ended."""
        return [call for call in self.seen() if not (call.answered or call.code is not None or call.lost)]

    def tell(self, work):
        """Runs `work` where connections live."""
        done = threading.Event()

        def run():
            work()
            done.set()
        self.loop.call_soon_threadsafe(run)
        done.wait(5)


class Serving(asyncio.Protocol):
    """One connection to an `Origin`."""

    def __init__(self, origin):
        self.origin, self.reader, self.begun = origin, frames.Reader(), bytearray()
        self.calls, self.credit, self.initial, self.going, self.writable = {}, 65535, 65535, False, True
        self.transport, self.number, self.last = None, 0, 0

    def connection_made(self, transport):
        self.transport = transport
        with self.origin.lock:
            self.origin.number += 1
            self.number = self.origin.number
            self.origin.conns.append(self)
        transport.set_write_buffer_limits(high=65536)
        self.send(frames.settings((frames.MAX_STREAMS, 4000), *self.origin.settings))

    def connection_lost(self, _):
        with self.origin.lock:
            self.origin.conns.remove(self)
            for call in self.calls.values():
                call.lost = True

    def pause_writing(self):
        self.writable = False

    def resume_writing(self):
        self.writable = True
        self.fill()

    def send(self, data):
        if not self.transport.is_closing():
            self.transport.write(data)

    def data_received(self, data):
        if len(self.begun) < len(frames.PREFACE):
            self.begun += data
            data = bytes(self.begun[len(frames.PREFACE):])
            if len(self.begun) < len(frames.PREFACE):
                return
            if not self.begun.startswith(frames.PREFACE):
                self.fault(f"no preface: {bytes(self.begun[:80])!r}")
                return
        try:
            for one in self.reader.feed(data):
                self.take(one)
        except (Fault, struct.error, IndexError) as error:
            self.fault(str(error))

    def fault(self, text):
        with self.origin.lock:
            self.origin.faults.append(text)
        self.transport.close()

    def take(self, one):
        if one.kind == frames.SETTINGS and not one.flags & frames.ACK:
            for key, value in one.pairs():
                if key == frames.INITIAL_WINDOW:
                    for call in self.calls.values():
                        call.credit += value - self.initial
                    self.initial = value
            self.send(frames.frame(frames.SETTINGS, frames.ACK, 0))
        elif one.kind == frames.PING and not one.flags & frames.ACK:
            self.send(frames.ping(one.payload, frames.ACK))
        elif one.kind == frames.WINDOW_UPDATE:
            if one.stream == 0:
                self.credit += one.number()
            elif one.stream in self.calls:
                self.calls[one.stream].credit += one.number()
            self.fill()
        elif one.kind == frames.HEADERS:
            self.headers(one)
        elif one.kind == frames.DATA:
            self.data(one)
        elif one.kind == frames.RST_STREAM and one.stream in self.calls:
            with self.origin.lock:
                self.calls[one.stream].code = one.number()
            self.forget(one.stream)

    def headers(self, one):
        call = self.calls.get(one.stream)
        if call is None:
            call = self.calls[one.stream] = Call(self, one.stream, one.fields)
            call.credit = self.initial
            self.last = one.stream
            with self.origin.lock:
                self.origin.calls.append(call)
                self.origin.total += 1
        else:
            call.trailers = one.fields
        self.moved(call, one)

    def data(self, one):
        call = self.calls.get(one.stream)
        if one.payload:
            self.send(frames.window_update(0, len(one.payload)))
        if call is None:
            return
        if one.payload and not one.ends():
            self.send(frames.window_update(one.stream, len(one.payload)))
        call.body += one.body()
        self.moved(call, one)

    def moved(self, call, one):
        """There is more of a call."""
        call.whole |= one.ends()
        if self.origin.on_call is not None:
            self.origin.on_call(call)
        elif call.path.startswith("/early") and not call.answered:
            self.answer(call)
        elif call.whole:
            self.answer_whole(call)

    def answer_whole(self, call):
        if call.path.startswith("/hold"):
            return
        if call.path.startswith("/slow"):
            self.origin.loop.call_later(0.1, self.answer, call)
        elif call.path.startswith("/big"):
            call.left = memoryview(ZEROS)
            self.send(frames.headers(call.ident, frames.block([(":status", "200"), ("content-length", str(BIG))]), False))
            self.fill()
        else:
            self.answer(call)

    def answer(self, call, status="200", body=b"ok\n", trailers=()):
        if call.code is not None or call.answered:
            return
        call.answered = True
        fields = [(":status", status), ("x-seen", call.path), ("x-got", str(len(call.body)))]
        bodiless = call.get(":method") == "HEAD" or not body
        self.send(frames.headers(call.ident, frames.block(fields), bodiless))
        if not bodiless:
            call.left, call.end = body, trailers
            self.fill()

    def fill(self):
        """Sends of bodies what credit allows."""
        for call in list(self.calls.values()):
            while call.left and self.writable and min(call.credit, self.credit) > 0:
                count = min(len(call.left), call.credit, self.credit, 16384)
                part, call.left = bytes(call.left[:count]), call.left[count:]
                call.credit, self.credit = call.credit - count, self.credit - count
                with self.origin.lock:
                    self.origin.wrote += count
                self.send(frames.data(call.ident, part, not call.left and not call.end))
                if not call.left:
                    call.answered = True
                    if call.end:
                        self.send(frames.headers(call.ident, frames.block(call.end)))
            if call.answered and not call.left and call.whole:
                self.forget(call.ident)

    def forget(self, ident):
        call = self.calls.pop(ident, None)
        if call is not None:
            call.left = b""


class Endless:
    """A service of HTTP/1: `/big` is 64 MiB, as fast as they are taken, `/hold` and `/idle` never end, all else is `ok`."""

    def __init__(self, relays):
        self.wrote, self.busy, self.loop = 0, 0, relays.loop
        self.sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        self.port = self.sock.getsockname()[1]
        asyncio.run_coroutine_threadsafe(asyncio.start_server(self.serve, sock=self.sock), self.loop).result()

    def clear(self):
        self.wrote = 0

    async def serve(self, reader, writer):
        writer.transport.set_write_buffer_limits(high=65536)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.busy += 1
                try:
                    if not await self.answer(head, reader, writer):
                        return
                finally:
                    self.busy -= 1
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def answer(self, head, reader, writer):
        """Answers one request; False when nothing can follow."""
        if b" /hold" in head or b" /idle" in head:
            while await reader.read(65536):
                pass
            return False
        big = b" /big" in head
        size = BIG if big else 3
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        while big and size:
            writer.write(bytes(16384))
            await writer.drain()
            self.wrote, size = self.wrote + 16384, size - 16384
        if not big:
            writer.write(b"ok\n")
        await writer.drain()
        return True


def settled(check, within=20.0):
    """Whether `check` comes true in time."""
    until = time.monotonic() + within
    while not check():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True
