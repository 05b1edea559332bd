"""Frames of HTTP/2 and HPACK, written by hand: whatever a case wants to send, and a strict reader of what comes.

The encoder has no state: a case says itself which fields are literal, indexed or stored. The reader keeps the table that
the peer's encoder fills, and complains about all that it may not send. Used by `h2client` and `h2origin`.
"""

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITIZED = 0x1, 0x1, 0x4, 0x8, 0x20
TABLE_SIZE, ENABLE_PUSH, MAX_STREAMS, INITIAL_WINDOW, MAX_FRAME, MAX_LIST, CONNECT_PROTOCOL = 1, 2, 3, 4, 5, 6, 8
CODES = ["NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
         "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
         "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED"]
(NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR,
 REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, CALM, INADEQUATE, HTTP_1_1) = range(14)

STATIC = [tuple(entry.partition("=")[::2]) for entry in (
    ":authority;:method=GET;:method=POST;:path=/;:path=/index.html;:scheme=http;:scheme=https;:status=200;:status=204;"
    ":status=206;:status=304;:status=400;:status=404;:status=500;accept-charset;accept-encoding=gzip, deflate;"
    "accept-language;accept-ranges;accept;access-control-allow-origin;age;allow;authorization;cache-control;"
    "content-disposition;content-encoding;content-language;content-length;content-location;content-range;content-type;"
    "cookie;date;etag;expect;expires;from;host;if-match;if-modified-since;if-none-match;if-range;if-unmodified-since;"
    "last-modified;link;location;max-forwards;proxy-authenticate;proxy-authorization;range;referer;refresh;retry-after;"
    "server;set-cookie;strict-transport-security;transfer-encoding;user-agent;vary;via;www-authenticate").split(";")]

# The code is canonical: its lengths say all. A letter for each byte, and the last one for the end; A stands for 5 bits.
LENGTHS = [ord(letter) - ord("A") + 5 for letter in (
    "ISXXXXXXXTZXXZXXXXXXXXZXXXXXXXXXBFFHIBDGFFDGDBBBAAABBBBBBBCDKBHFIBCCCCCCCCCCCCCCCCCCCCCCDCDIOIJBKABABABBBACCBBBABCBAAB"
    "CCCCCKGJIXPRPPRRRSRSSSSSTSTTRSTSSSSQRSRSSTRQPRRSSQSRRTQRSSQQRQSRSSPRRRSRRSVVPORSRUVVVWWVTUOQVWWVWTQQVVXWWWPTPQRQQSRRUUT"
    "TVSVWVVWWWWWXWWWWWVZ")]


def codes():
    """(bits, code) to symbol; 256 is the end of the string."""
    found, code, before = {}, 0, 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(LENGTHS)):
        code <<= length - before
        found[length, code] = symbol
        code, before = code + 1, length
    return found


SYMBOLS = codes()
SPELLED = {symbol: code for code, symbol in SYMBOLS.items()}


class Fault(Exception):
    """What came is not HTTP/2."""


# Encoding.

def frame(kind, flags, stream, payload=b"", length=None):
    """One frame; `length` for one that lies about it."""
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def settings(*pairs):
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", key, value) for key, value in pairs))


def window_update(stream, count):
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", count))


def rst_stream(stream, code=CANCEL):
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def goaway(last, code=NO_ERROR, text=b""):
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, code) + text)


def ping(data=b"8 bytes.", flags=0):
    return frame(PING, flags, 0, data)


def priority(stream, on=0, weight=15):
    return frame(PRIORITY, 0, stream, struct.pack(">IB", on, weight))


def data(stream, body=b"", end=False):
    """DATA, in as many frames as it needs."""
    if len(body) > 16384:
        return data(stream, body[:16384]) + data(stream, body[16384:], end)
    return frame(DATA, END_STREAM if end else 0, stream, body)


def headers(stream, block, end=True, pieces=1, flags=0):
    """HEADERS, and CONTINUATIONs when there is more than one piece."""
    flags |= END_STREAM if end else 0
    if pieces == 1 and len(block) <= 16384:
        return frame(HEADERS, flags | END_HEADERS, stream, block)
    size = min(16384, max(1, -(-len(block) // pieces)))
    parts = [block[at:at + size] for at in range(0, len(block), size)] or [b""]
    first = frame(HEADERS, flags | (END_HEADERS if len(parts) == 1 else 0), stream, parts[0])
    rest = [frame(CONTINUATION, END_HEADERS if part is parts[-1] else 0, stream, part) for part in parts[1:]]
    return first + b"".join(rest)


def integer(value, prefix, first=0):
    """An integer of HPACK with a prefix of so many bits; `first` are the bits before it."""
    most = (1 << prefix) - 1
    if value < most:
        return bytes([first | value])
    found, value = [first | most], value - most
    while value >= 128:
        found.append(value % 128 | 128)
        value //= 128
    return bytes([*found, value])


def huffman(text):
    bits, count = 0, 0
    for byte in text:
        length, code = SPELLED[byte]
        bits, count = bits << length | code, count + length
    pad = -count % 8
    return (bits << pad | (1 << pad) - 1).to_bytes((count + pad) // 8, "big")


def string(text, coded=False):
    text = text.encode("latin-1") if isinstance(text, str) else text
    return integer(len(huffman(text)), 7, 0x80) + huffman(text) if coded else integer(len(text), 7) + text


def indexed(index):
    return integer(index, 7, 0x80)


def literal(name, value, store=False, coded=False):
    """A field; `name` is text, or the index of one. `store` puts it into the peer's table."""
    prefix, first = (6, 0x40) if store else (4, 0)
    if isinstance(name, int):
        return integer(name, prefix, first) + string(value, coded)
    return bytes([first]) + string(name, coded) + string(value, coded)


def table_size(size):
    return integer(size, 5, 0x20)


def block(fields, store=False, coded=False):
    return b"".join(literal(name, value, store, coded) for name, value in fields)


def request(authority, path="/", method="GET", scheme="http", more=()):
    """Fields of an ordinary request."""
    return [(":method", method), (":scheme", scheme), (":authority", authority), (":path", path), *more]


# Decoding.

def unhuffman(text):
    found, bits, count = bytearray(), 0, 0
    for byte in text:
        for shift in range(7, -1, -1):
            bits, count = bits << 1 | byte >> shift & 1, count + 1
            symbol = SYMBOLS.get((count, bits))
            if symbol == 256:
                raise Fault("HPACK: the end of a string inside of it")
            if symbol is not None:
                found.append(symbol)
                bits, count = 0, 0
    if count > 7 or bits != (1 << count) - 1:
        raise Fault("HPACK: padding")
    return bytes(found)


class Decoder:
    """Blocks to fields. `allowed` is what our settings let the table grow to; `set` when they changed."""

    def __init__(self):
        self.table, self.size, self.room, self.allowed, self.owed = [], 0, 4096, 4096, None

    def set(self, size):
        """The peer has acknowledged this SETTINGS_HEADER_TABLE_SIZE."""
        if size < self.room:
            self.owed = size
        self.allowed = size

    def decode(self, text):
        found, at, fields = [], 0, False
        while at < len(text):
            byte = text[at]
            if byte & 0x80:
                index, at = self.integer(text, at, 7)
                found.append(self.entry(index))
            elif byte & 0xe0 == 0x20:
                size, at = self.integer(text, at, 5)
                if fields or size > self.allowed:
                    raise Fault(f"HPACK: table size {size} of {self.allowed}, after fields: {fields}")
                self.room, self.owed = size, None
                self.shrink(0)
                continue
            else:
                store = byte & 0x40
                index, at = self.integer(text, at, 6 if store else 4)
                name, at = (self.entry(index)[0], at) if index else self.string(text, at)
                value, at = self.string(text, at)
                found.append((name, value))
                if store:
                    self.add(name, value)
            fields = True
            if self.owed is not None:
                raise Fault(f"HPACK: the table was not made as small as {self.owed}")
        return found

    def entry(self, index):
        if not 0 < index <= len(STATIC) + len(self.table):
            raise Fault(f"HPACK: index {index} of {len(STATIC) + len(self.table)}")
        return STATIC[index - 1] if index <= len(STATIC) else self.table[index - 1 - len(STATIC)]

    def add(self, name, value):
        size = len(name) + len(value) + 32
        self.shrink(size)
        if size <= self.room:
            self.table.insert(0, (name, value))
            self.size += size

    def shrink(self, more):
        while self.table and self.size + more > self.room:
            name, value = self.table.pop()
            self.size -= len(name) + len(value) + 32

    @staticmethod
    def integer(text, at, prefix):
        most = (1 << prefix) - 1
        value, at, shift = text[at] & most, at + 1, 0
        while value >= most and shift < 35:
            if at >= len(text):
                raise Fault("HPACK: an integer without an end")
            byte, at = text[at], at + 1
            value, shift = value + ((byte & 127) << shift), shift + 7
            if byte < 128:
                break
        return value, at

    def string(self, text, at):
        if at >= len(text):
            raise Fault("HPACK: no string")
        coded = text[at] & 0x80
        size, at = self.integer(text, at, 7)
        if at + size > len(text):
            raise Fault("HPACK: a string without an end")
        part = bytes(text[at:at + size])
        return (unhuffman(part) if coded else part).decode("latin-1"), at + size


class Frame:
    """One frame that came. Of HEADERS, whole with what continues it, `fields` are set."""

    def __init__(self, kind, flags, stream, payload, fields=None):
        self.kind, self.flags, self.stream, self.payload, self.fields = kind, flags, stream, payload, fields

    def ends(self):
        return self.kind in (DATA, HEADERS) and bool(self.flags & END_STREAM)

    def number(self):
        """The 32 bits that it begins with."""
        return struct.unpack(">I", self.payload[:4])[0]

    def pairs(self):
        """What a SETTINGS frame says."""
        return [struct.unpack(">HI", self.payload[at:at + 6]) for at in range(0, len(self.payload), 6)]

    def body(self):
        """Data without padding."""
        if self.flags & PADDED:
            return self.payload[1:len(self.payload) - self.payload[0]]
        return self.payload


class Reader:
    """Bytes to frames."""

    def __init__(self, limit=16384):
        self.limit, self.buffer, self.decoder, self.open = limit, bytearray(), Decoder(), None

    def feed(self, more):
        """The frames that are complete now; raises Fault."""
        self.buffer += more
        at = 0
        try:
            while len(self.buffer) - at >= 9:
                size = int.from_bytes(self.buffer[at:at + 3], "big")
                if size > self.limit:
                    raise Fault(f"a frame of {size} bytes: {bytes(self.buffer[at:at + 40])!r}")
                if len(self.buffer) - at < 9 + size:
                    break
                kind, flags = self.buffer[at + 3], self.buffer[at + 4]
                stream = int.from_bytes(self.buffer[at + 5:at + 9], "big") & 0x7fffffff
                payload = bytes(self.buffer[at + 9:at + 9 + size])
                at += 9 + size
                whole = self.whole(Frame(kind, flags, stream, payload))
                if whole is not None:
                    yield whole
        finally:
            del self.buffer[:at]

    def whole(self, one):
        """`one`, or nothing while a block of headers goes on."""
        if self.open is not None and (one.kind != CONTINUATION or one.stream != self.open.stream):
            raise Fault(f"frame {one.kind} inside of a block of headers")
        if one.kind == HEADERS:
            part = one.body()
            one.payload = part[5:] if one.flags & PRIORITIZED else part
        elif one.kind == CONTINUATION:
            if self.open is None:
                raise Fault("CONTINUATION of nothing")
            self.open.payload += one.payload
            self.open.flags |= one.flags & END_HEADERS
            one = self.open
        else:
            return one
        self.open = one
        if not one.flags & END_HEADERS:
            return None
        self.open = None
        one.fields = self.decoder.decode(one.payload)
        return one
