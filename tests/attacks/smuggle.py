"""H1-17: permutations of framing in the manner of the HTTP Garden and PortSwigger's smuggler.

Each permutation is one stream of bytes: a request whose end is in doubt, one hidden in its body, and a probe. Whatever the
router makes of it, the servers must make the same of what it sends them: as many requests as it counted, each answered to
the connection that asked. Not for: which of them are refused (see `h1`).
"""

import itertools
import random
from concurrent.futures import ThreadPoolExecutor

from lab import demand, eventually_true
from wire import Conn, parse_requests

BATCH, THREADS = 200, 4
SPACES = [b"", b" ", b"\t", b"\x0b", b"\x0c", b"\xa0", b"\0", b"\r", b"\n", b"\r\n ", b"\r\n\t", b"  "]

LENGTHS = [
    None, b"Content-Length: %d\r\n", b"content-length:%d\r\n", b"Content-Length : %d\r\n", b"Content-Length:\t%d\r\n",
    b"Content-Length: +%d\r\n", b" Content-Length: %d\r\n", b"Content-Length: %d, %d\r\n", b"Content-Length: 0%d\r\n",
    b"Content-Length: %d\x0b\r\n", b"Content_Length: %d\r\n", b"X: y\nContent-Length: %d\r\n", b"Content-Length: %d\n",
    b"X: y\rContent-Length: %d\r\n", b"Content-Length: %d\r\nContent-Length: 0\r\n", b"Content-Length: \"%d\"\r\n",
    b"Content-Length: 0\r\nContent-Length: %d\r\n", b"Content-Length: %d\r\nContent-Length: %d\r\n",
    b"Content-Length: %d;\r\n", b"Content-Length\0: %d\r\n", b"Content-Length:\r\n %d\r\n", b"Content-Length: %d \r\n",
    b"Content-Length: -%d\r\n", b"Content-Length: 0x%x\r\n", b"Content-Length: %d.0\r\n", b"\x00Content-Length: %d\r\n",
    b"Connection: content-length\r\nContent-Length: %d\r\n", b"Content-Length: 0\r\nContent_Length: %d\r\n",
    b"Content-Length: 18446744073709551616%d\r\n", b"Content-Length: %d\r\nX-Y: z\r\n",
]
CODINGS = [
    None, b"Transfer-Encoding: chunked\r\n", b"transfer-encoding:chunked\r\n", b"Transfer-Encoding : chunked\r\n",
    b"Transfer-Encoding:\tchunked\r\n", b"Transfer-Encoding: xchunked\r\n", b"Transfer-Encoding: chunked, identity\r\n",
    b"Transfer-Encoding: identity, chunked\r\n", b"Transfer-Encoding: identity\r\n", b"Transfer-Encoding: chunk\r\n",
    b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
    b"Transfer_Encoding: chunked\r\n", b"X: X\nTransfer-Encoding: chunked\r\n", b"Transfer-Encoding:\x0bchunked\r\n",
    b"Transfer-Encoding:\n chunked\r\n", b"Transfer-Encoding\n: chunked\r\n", b"Transfer-Encoding: \"chunked\"\r\n",
    b"Transfer-Encoding\0: chunked\r\n", b"Transfer-Encoding: chunked;\r\n", b"Transfer-Encoding: CHUNKED\r\n",
    b"Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n", b"Transfer-Encoding:\xa0chunked\r\n",
    b"Transfer-Encoding:\r\n chunked\r\n", b"Foo: bar\r\n Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: \r\n",
    b" Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"Transfer-Encoding: chunked\n",
    b"Foo: bar\r\n\tTransfer-Encoding: chunked\r\n", b"X: y\rTransfer-Encoding: chunked\r\n", b"TE: chunked\r\n",
    b"Transfer-Encoding: chunked\x00\r\n", b"Transfer-Encoding: chunked \r\n", b"Transfer-Encoding: ,chunked\r\n",
    b"Transfer-Encoding: chunked,\r\n", b"\xffTransfer-Encoding: chunked\r\n", b"Transfer-Encoding: c\r\n hunked\r\n",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"Transfer-Encoding=chunked\r\n",
    b"Transfer Encoding: chunked\r\n", b"Trailer: Content-Length\r\nTransfer-Encoding: chunked\r\n",
]
CHUNKS = [
    b"%x\r\n%s\r\n0\r\n\r\n", b"%X\r\n%s\r\n0\r\n\r\n", b"000%x\r\n%s\r\n000\r\n\r\n", b"%x;a=b\r\n%s\r\n0;c\r\n\r\n",
    b"%x\n%s\n0\n\n", b"%x\r\n%s\r\n0\r\nX-T: 1\r\n\r\n", b"%x\r\n%s\r\n0\r\nContent-Length: 9\r\nHost: z\r\n\r\n",
    b"%x \r\n%s\r\n0\r\n\r\n", b"0x%x\r\n%s\r\n0\r\n\r\n", b"%x;\"\r\n%s\r\n0\r\n\r\n", b"%x\r\n%s\r\n0\r\n\n",
    b"%x\r\n%s\r\n00000000000000000\r\n\r\n", b"%x;a\n%s\r\n0\r\n\r\n", b"%x\r\n%s0\r\n\r\n", b"0\r\n\r\n%.0x%s",
    b"0%.0x\r\n\r\n%s", b"%x\r\n%s\r\n-0\r\n\r\n", b"%x\r\r\n%s\r\n0\r\n\r\n", b"%x\r\n%s\r\n0\r\n\r\n\r\n",
    b"%x;%%0a\r\n%s\r\n0\r\n\r\n", b"1%x\r\n%s\r\n0\r\n\r\n", b"%x\r\n%s\r\n0\r\nA: b\n\r\n", b"%x\r\n%s\r\n0\r\n x\r\n\r\n",
]
METHODS = [b"POST", b"GET", b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"TRACE", b"PROPFIND"]
VERSIONS = [b"HTTP/1.1"] * 6 + [b"HTTP/1.0", b"HTTP/1.2", b"HTTP/1.1 ", b"HTTP/01.1"]
TARGETS = [b"%s"] * 6 + [b"http://%%HOST%%%s", b"//%s", b"/..%s", b"%s?a=/b", b"%s#", b"http://other%s", b"*%.0s"]
HOSTS = [b"Host: %HOST%\r\n"] * 8 + [
    b"Host: %HOST%\r\nHost: %HOST%\r\n", b"Host:%HOST%\r\n", b"Host : %HOST%\r\n", b"Host: %HOST%:80\r\n", b"",
    b"Host: %HOST%\r\n\tother\r\n", b"Host: %HOST%\r\nX-Forwarded-Host: other\r\n", b"Host: %HOST%\n"]
EXTRAS = [b""] * 6 + [
    b"Expect: 100-continue\r\n", b"Connection: keep-alive\r\n", b"Connection: close\r\n", b"Connection: te, x\r\nTE: gzip\r\n",
    b"Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n", b"Upgrade: websocket\r\n",
    b"X-HTTP-Method-Override: GET\r\n", b"Keep-Alive: timeout=1\r\n", b"Connection: close, content-length\r\n",
    b"Proxy-Connection: keep-alive\r\n", b"Trailer: Host\r\n", b"Connection: host\r\n", b"Expect: 100-Continue\r\n"]
PREFIXES = [b""] * 10 + [b"\r\n", b"\n", b"\r\n\r\n", b"\0"]
KINDS = [b"c"] * 8 + [b"early", b"busy"]


class Permutation:
    """One stream. `ident` is in every target of it; `probe` is its last one."""

    def __init__(self, number, data):
        self.ident = f"n{number:05}-"
        self.data = data.replace(b"%IDENT%", self.ident.encode())
        self.probe = f"/probe-{self.ident}"

    def bytes(self, host):
        probe = f"GET {self.probe} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        return self.data.replace(b"%HOST%", host.encode()) + probe


# What fills in `%IDENT%` and `%HOST%` is as long as they are, so lengths can be counted before.
HIDDEN = b"GET /hidden-%IDENT% HTTP/1.1\r\nHost: %HOST%\r\n\r\n"


def compose(rng, length, coding, chunk=None, plain=False):
    """A stream of this spelling of the length and this one of the coding."""
    def pick(options):
        """Mostly the ordinary one, else little would come through."""
        return options[0] if plain or rng.random() < 0.6 else rng.choice(options)

    size = len(HIDDEN)
    body = (chunk or pick(CHUNKS)) % (size, HIDDEN) if coding is not None else HIDDEN
    total = len(body)
    counted = pick([total, total, 0, 4, 5, size]) if coding is not None else pick([total, total, 0])
    fields = [pick(HOSTS), pick(EXTRAS)]
    if length is not None:
        fields.append(length.replace(b"%d", b"%d" % counted).replace(b"%x", b"%x" % counted))
    if coding is not None:
        fields.append(coding)
    if not plain:
        rng.shuffle(fields)
    target = pick(TARGETS) % (b"/" + pick(KINDS) + b"-%IDENT%")
    start = pick(PREFIXES) + pick(METHODS) + b" " + target + b" " + pick(VERSIONS) + b"\r\n"
    return start + b"".join(fields) + b"\r\n" + body


def mutate(rng, data):
    """One to three bytes of it are put in, taken out or changed."""
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data))
        if data[max(0, at - 8):at + 8].find(b"%") >= 0:
            continue
        odd = rng.choice(SPACES[1:] + [b":", b",", b";", b"0", b"\x7f", b"\xff", b"\r\n", b"%2e"])
        data = data[:at] + odd + data[at + rng.randint(0, 2):]
    return data


def permutations(count, seed):
    """All pairs of spellings first, then combinations at random, one in four of them with broken bytes."""
    rng = random.Random(seed)
    number = itertools.count(1000)
    pairs = [compose(rng, length, coding, plain=True) for length in LENGTHS for coding in CODINGS]
    pairs += [compose(rng, None, CODINGS[1], chunk=chunk, plain=True) for chunk in CHUNKS]
    made = 0
    while made < count:
        if made < len(pairs):
            data = pairs[made]
        else:
            length, coding = rng.choice(LENGTHS), rng.choice(CODINGS)
            one = rng.random()
            if one < 0.8:
                length, coding = (None, coding) if one < 0.4 else (length, None)
            if rng.random() < 0.5:
                length, coding = (length and LENGTHS[1]), (coding and CODINGS[1])
            data = compose(rng, length, coding)
            data = mutate(rng, data) if rng.random() < 0.25 else data
        made += 1
        yield Permutation(next(number), data)


def send(lab, name, listener, permutation):
    """How many answers there are to what the router sent, and what is odd about them."""
    with Conn(lab.router.ports[listener]) as conn:
        conn.send(permutation.bytes(lab.alias(name)))
        methods = [permutation.data.lstrip(b"\r\n\0").split(b" ")[0].decode("latin-1")]
        found = conn.responses(methods, until=permutation.probe)
    seen = [response.header("x-seen") for response in found if response.header("x-seen")]
    foreign = [target for target in seen if permutation.ident not in target and target != "*"]
    odd = f"it got the answer to {foreign}" if foreign else ""
    if len(seen) != len(set(seen)):
        odd = f"it got the same answer twice: {seen}"
    return sum(map(asked_server, found)), odd


def asked_server(response):
    """Whether an answer is the server's, or the router's after it had asked the server in vain."""
    if response.header("l5d-err") is None:
        return True
    status = response.header("proxy-status") or ""
    return response.status == 502 and not any(word in status for word in ["destination_not_found", "http_request_error"])


def check(lab, name, listener, batch):
    """Sends some streams; returns what is wrong, and which of them the server answered."""
    lab.clear(name)
    before = lab.router.forwarded(f"{listener}/client/#/io.l5d.fs/{lab.alias(name)}")
    with ThreadPoolExecutor(THREADS) as threads:
        outcomes = list(threads.map(lambda permutation: send(lab, name, listener, permutation), batch))
    wrong = [f"{permutation.ident}: {odd}" for permutation, (_, odd) in zip(batch, outcomes) if odd]
    server, relay = lab.servers[name], lab.relays[name]

    def wire():
        """Requests in the bytes that the router sent: whole ones, and those that it broke off."""
        streams = [parse_requests(stream) for stream in relay.sent()]
        return sum(len(requests) for requests, _ in streams), sum(bool(rest) for _, rest in streams)

    if not eventually_true(lambda: len(server.lines()) == sum(wire())):
        wrong.append(f"the router sent %d requests and %d broken ones, {name} counted {len(server.lines())}" % wire()
                     + f" ({[line for line in server.lines() if ' /' not in line]})")
    counted = lab.router.forwarded(f"{listener}/client/#/io.l5d.fs/{lab.alias(name)}") - before
    answered = sum(answers for answers, _ in outcomes)
    # An attempt that ends before its first byte is sent counts as well; one that is tried again has no answer.
    if not answered <= sum(wire()) <= counted:
        wrong.append(f"{answered} answers, {sum(wire())} requests on the wire, {counted} counted by the router")
    if listener == "plain" and answered < wire()[0]:
        wrong.append(f"{wire()[0]} requests were sent, {answered} answered")
    return wrong, [bool(answers) for answers, _ in outcomes]


def culprits(lab, name, listener, batch):
    """Of a batch that is wrong, two that are wrong alone."""
    found = []
    for permutation in batch:
        wrong, _ = check(lab, name, listener, [permutation])
        if wrong:
            found.append(f"{permutation.bytes(lab.alias(name))!r}: {wrong}")
            if len(found) == 2:
                break
    return found


def run(lab, results, options):
    """All permutations against the first server; those that it answered against all others, retries on and off."""
    count = options.permutations or (200000 if options.long else 12000)
    everything = list(permutations(count, options.seed))
    names = lab.names()
    passed = []
    for name in names:
        todo = everything if name == names[0] else passed
        for number in range(0, len(todo), BATCH):
            batch = todo[number:number + BATCH]
            listener = "retrying" if number // BATCH % 2 else "plain"

            def work(name=name, listener=listener, batch=batch):
                wrong, answered = check(lab, name, listener, batch)
                if name == names[0]:
                    passed.extend(one for one, got in zip(batch, answered) if got)
                demand(not wrong, f"{wrong[:3]}; alone: {culprits(lab, name, listener, batch) if wrong else ''}")

            results.attempt("H1-17", f"permutations {number} to {number + len(batch)}, seed {options.seed}",
                            f"{name}, {listener}", work)
    print(f"H1-17: {len(everything)} permutations, {len(passed)} of them came through and went to {', '.join(names)}")
