"""A transparent TCP relay that keeps every byte the router sends to a server.

One thread serves all relays of a run. Not for: changing anything on the way.
"""

import asyncio
import threading


class Relay:
    """Stands before one server. `sent` is what the router sent since the last `clear`, by connection."""

    def __init__(self, target):
        self.target, self.port = target, None
        self.lock, self.streams, self.total, self.connections = threading.Lock(), {}, 0, 0
        self.closed = set()

    def clear(self):
        with self.lock:
            self.streams = {key: bytearray() for key in self.streams if key not in self.closed}
            self.closed.clear()

    def sent(self):
        """Bytes of each connection that has sent any, in order of the connections' age."""
        with self.lock:
            return [bytes(data) for data in self.streams.values() if data]

    def open(self):
        """Bytes of each connection that has sent any and is still there."""
        with self.lock:
            return [bytes(data) for key, data in self.streams.items() if data and key not in self.closed]

    def count(self):
        """All bytes from the router since the start."""
        with self.lock:
            return self.total


class Towards(asyncio.Protocol):
    """The side that leads to the server."""

    def __init__(self, back):
        self.back = back

    def data_received(self, data):
        self.back.transport.write(data)

    def connection_lost(self, _):
        self.back.transport.close()


class From(asyncio.Protocol):
    """The side that the router connected to."""

    def __init__(self, relay):
        self.relay, self.transport, self.other, self.early = relay, None, None, []

    def connection_made(self, transport):
        self.transport = transport
        with self.relay.lock:
            self.relay.connections += 1
            self.relay.streams[self] = bytearray()
        asyncio.get_running_loop().create_task(self.connect())

    async def connect(self):
        try:
            other, _ = await asyncio.get_running_loop().create_connection(lambda: Towards(self), "127.0.0.1",
                                                                          self.relay.target)
        except OSError:
            self.transport.close()
            return
        self.other = other
        for data in self.early:
            other.write(data)
        if self.transport.is_closing():
            other.close()

    def data_received(self, data):
        with self.relay.lock:
            self.relay.total += len(data)
            self.relay.streams[self] += data
        if self.other is None:
            self.early.append(data)
        else:
            self.other.write(data)

    def connection_lost(self, _):
        with self.relay.lock:
            self.relay.closed.add(self)
        if self.other is not None:
            self.other.close()


class Relays:
    """The thread of all relays."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def start(self, target):
        relay = Relay(target)
        serving = self.loop.create_server(lambda: From(relay), "127.0.0.1", 0)
        server = asyncio.run_coroutine_threadsafe(serving, self.loop).result()
        relay.port = server.sockets[0].getsockname()[1]
        return relay
