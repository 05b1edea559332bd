"""Group H1: framing of HTTP/1, as data. What each id asks for is in docs/security.md."""

from cases import Passed, Refused

CRLF = b"\r\n"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"
BOTH = "content-length-and-transfer-encoding"


def post(ident, name, fields, body, reason, **more):
    head = b"POST /evil HTTP/1.1\r\nHost: %HOST%\r\n" + fields + CRLF
    return Refused(ident, name, head + body, reason, **more)


def raw(ident, name, data, reason, statuses=(400,), **more):
    return Refused(ident, name, data, reason, statuses, **more)


def line(text):
    return text.encode("latin-1") + CRLF


def lengths():
    """H1-1 and H1-2."""
    cl, te = line("Content-Length: 5"), line("Transfer-Encoding: chunked")
    cases = [
        post("H1-1", "length first", cl + te, HELLO, BOTH),
        post("H1-1", "chunked first", te + cl, HELLO, BOTH),
        post("H1-1", "length 0", line("Content-Length: 0") + te, HELLO, BOTH),
        post("H1-1", "the right length", line("Content-Length: 15") + te, HELLO, BOTH),
        post("H1-1", "fields between", te + line("X-A: b") + line("content-LENGTH: 5"), HELLO, BOTH),
        post("H1-1", "CL.TE", line("Content-Length: 6") + te, b"0\r\n\r\nG", BOTH),
        post("H1-2", "two lengths", cl + line("Content-Length: 6"), b"hello!", "content-length"),
        post("H1-2", "two lengths, one 0", line("Content-Length: 0") + cl, b"hello", "content-length"),
        post("H1-2", "apart", cl + line("X-A: b") + line("content-length: 6"), b"hello!", "content-length"),
    ]
    values = ["5, 5", "5,6", "+5", "5 ", "5\t", "0x5", "-1", "-0", "18446744073709551616", "9" * 30, "", "5 5", "5.0",
              "5;", '"5"', "five", "5,", ",5", "1e1", "0b11", "5\xa0", "\xb2", "5_0"]
    cases += [post("H1-2", f"length {value!r}", line(f"Content-Length: {value}"), b"hello", "content-length")
              for value in values]
    merged = b"POST /merged HTTP/1.1\r\nHost: %HOST%\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello"
    return cases + [Passed("H1-2", "two equal lengths", merged, ["/merged"])]


def codings():
    """H1-3 and H1-4."""
    values = ["xchunked", "chunked, identity", "identity", "chunked, chunked", "chunked\t", "chunked ", "gzip, chunked",
              "gzip", "chunked, gzip", '"chunked"', "'chunked'", "chunked;q=1", "chunked,", ",chunked", "",
              "chunk", "chunkedd", "c\xe2\x84\xaahunked", "\xa0chunked", "identity, chunked, identity", "chunked;",
              "cow", "deflate", "compress, chunked"]
    cases = [post("H1-3", f"coding {value!r}", line(f"Transfer-Encoding: {value}"), HELLO, "transfer-encoding",
                  statuses=(400, 501)) for value in values]
    te = line("Transfer-Encoding: chunked")
    for name, second in [("twice", te), ("then another", line("Transfer-Encoding: cow")),
                         ("then identity", line("Transfer-Encoding: identity")), ("then nothing", line("Transfer-Encoding:"))]:
        cases.append(post("H1-3", f"chunked {name}", te + second, HELLO, "transfer-encoding"))
    cases += [
        post("H1-3", "another, then chunked", line("Transfer-Encoding: x") + te, HELLO, "transfer-encoding"),
        post("H1-3", "vertical tab", b"Transfer-Encoding: \x0bchunked\r\n", HELLO, "header-value"),
        post("H1-3", "NUL", b"Transfer-Encoding: chunked\0\r\n", HELLO, "header-value"),
        post("H1-3", "in a fold", b"X-A: b\r\n Transfer-Encoding: chunked\r\n", HELLO, "obs-fold"),
        post("H1-3", "folded value", b"Transfer-Encoding:\r\n chunked\r\n", HELLO, "transfer-encoding"),
        post("H1-3", "folded list", b"Transfer-Encoding: chunked,\r\n\tidentity\r\n", HELLO, ""),
    ]
    for version, fields in [("HTTP/1.0", te), ("HTTP/1.0", te + line("Connection: keep-alive")),
                            ("HTTP/1.0", te + line("Content-Length: 5"))]:
        head = f"POST /evil {version}\r\nHost: ".encode() + b"%HOST%\r\n" + fields + CRLF
        cases.append(raw("H1-4", f"chunked in {version} {fields[28:50]!r}", head + HELLO, "", statuses=(400,)))
    until_close = b" /evil HTTP/1.0\r\nHost: %HOST%\r\n\r\nhello"
    cases += [raw("H1-4", f"{method.decode()} until close in HTTP/1.0", method + until_close, "length-required")
              for method in [b"POST", b"PUT", b"PATCH"]]
    return cases


def chunks():
    """H1-5: bodies that break. Their heads may be under way when the bytes come one by one."""
    size, end, extension = "chunk-size", "chunk-end", "chunk-extension"
    bodies = [
        ("overflow", size, b"10000000000000000\r\nhello\r\n0\r\n\r\n"),
        ("all ones and more", size, b"fffffffffffffffff\r\nhello\r\n"),
        ("just above 2^64", size, b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("negative", size, b"-5\r\nhello\r\n0\r\n\r\n"),
        ("plus", size, b"+5\r\nhello\r\n0\r\n\r\n"),
        ("0x", size, b"0x5\r\nhello\r\n0\r\n\r\n"),
        ("leading space", size, b" 5\r\nhello\r\n0\r\n\r\n"),
        ("trailing space", size, b"5 \r\nhello\r\n0\r\n\r\n"),
        ("underscore", size, b"5_\r\nhello\r\n0\r\n\r\n"),
        ("empty size", size, b"\r\nhello\r\n0\r\n\r\n"),
        ("not hexadecimal", size, b"g\r\nhello\r\n0\r\n\r\n"),
        ("bare LF after the size", size, b"5\nhello\r\n0\r\n\r\n"),
        ("CR and no LF", size, b"5\rXhello\r\n0\r\n\r\n"),
        ("17 zeros", size, b"0" * 17 + b"\r\n\r\n"),
        ("LF in the extension", extension, b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
        ("LF ends the extension", extension, b"5;a\nhello\r\n0\r\n\r\n"),
        ("CR in the extension", size, b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
        ("NUL in the extension", extension, b"5;a\0b\r\nhello\r\n0\r\n\r\n"),
        ("no CRLF after the data", end, b"5\r\nhello0\r\n\r\n"),
        ("bare LF after the data", end, b"5\r\nhello\n0\r\n\r\n"),
        ("bare CR after the data", end, b"5\r\nhello\r0\r\n\r\n"),
        ("more data than said", end, b"5\r\nhelloXX\r\n0\r\n\r\n"),
        ("less data than said", end, b"5\r\nhell\r\n0\r\n\r\n"),
        ("bare LF at the end", "trailers", b"5\r\nhello\r\n0\r\n\n"),
        ("a request as a trailer", "trailers", b"0\r\nGET /evil HTTP/1.1\r\nHost: %HOST%\r\n\r\n"),
        ("fold in a trailer", "trailers", b"0\r\nX-A: b\r\n c\r\n\r\n"),
        ("16 MB of extension", extension, b"5;" + b"x" * (16 << 20) + b"\r\nhello\r\n0\r\n\r\n"),
    ]
    te = line("Transfer-Encoding: chunked")
    # The close of 16 MB that nobody reads is a reset, which may overtake the answer.
    return [post("H1-5", name, te, body, reason, late=True, silent=len(body) > 1 << 20) for name, reason, body in bodies]


def fields():
    """H1-7."""
    lines = [
        ("space before the colon", "space-before-colon", b"X-A : b"),
        ("length with a space", "space-before-colon", b"Content-Length : 5"),
        ("coding with a tab", "space-before-colon", b"Transfer-Encoding\t: chunked"),
        ("fold", "obs-fold", b"X-A: b\r\n c"),
        ("fold with a tab", "obs-fold", b"X-A: b\r\n\tc"),
        ("empty fold", "obs-fold", b"X-A: b\r\n "),
        ("NUL in a value", "header-value", b"X-A: b\0c"),
        ("escape in a value", "header-value", b"X-A: b\x1b[31mc"),
        ("DEL in a value", "header-value", b"X-A: b\x7fc"),
        ("CR in a value", "bare-cr", b"X-A: b\rc"),
        ("CR hides a line", "bare-cr", b"X-A: b\rContent-Length: 5"),
        ("LF ends a line", "bare-lf", b"X-A: b\nX-C: d"),
        ("LF hides a line", "bare-lf", b"X-A: b\nTransfer-Encoding: chunked"),
        ("no name", "header-name", b": b"),
        ("space in a name", "header-name", b"X A: b"),
        ("parenthesis in a name", "header-name", b"X(A): b"),
        ("NUL in a name", "header-name", b"X\0A: b"),
        ("slash in a name", "header-name", b"X/A: b"),
        ("8 bits in a name", "header-name", b"X-\xe4: b"),
        ("no colon", "header-line", b"X-A"),
    ]
    cases = [post("H1-7", name, field + CRLF, b"hello", reason) for name, reason, field in lines]
    rest = b" HTTP/1.1\r\nHost: %HOST%\r\n\r\n"
    heads = [
        ("space before the first field", "obs-fold", b"GET /evil HTTP/1.1\r\n Host: %HOST%\r\n\r\n"),
        ("LF only", "bare-lf", b"GET /evil HTTP/1.1\nHost: %HOST%\n\n"),
        ("LF after the line", "bare-lf", b"GET /evil HTTP/1.1\nHost: %HOST%\r\n\r\n"),
        ("CR in the target", "bare-cr", b"GET /evil\rx" + rest),
        ("two empty lines first", "empty-line", b"\r\n\r\nGET /evil" + rest),
        ("space first", "method", b" GET /evil" + rest),
        ("two spaces", "target", b"GET  /evil" + rest),
        ("tabs in the line", "request-line", b"GET\t/evil\tHTTP/1.1\r\nHost: %HOST%\r\n\r\n"),
        ("space in the target", "target", b"GET /evil x" + rest),
        ("NUL in the target", "target", b"GET /evil\0" + rest),
        ("8 bits in the target", "target", b"GET /evil\xe4" + rest),
        ("fragment", "target", b"GET /evil#x" + rest),
        ("no version", "request-line", b"GET /evil\r\nHost: %HOST%\r\n\r\n"),
        ("version 0.9", "version", b"GET /evil HTTP/0.9\r\nHost: %HOST%\r\n\r\n"),
        ("version 2.0", "version", b"GET /evil HTTP/2.0\r\nHost: %HOST%\r\n\r\n"),
        ("version 1.10", "request-line", b"GET /evil HTTP/1.10\r\nHost: %HOST%\r\n\r\n"),
        ("lower-case version", "version", b"GET /evil http/1.1\r\nHost: %HOST%\r\n\r\n"),
    ]
    return cases + [raw("H1-7", name, data, reason) for name, reason, data in heads]


def hosts():
    """H1-8. The framing is not in doubt, so the connection may go on."""
    texts = ["Host: %HOST%\r\nHost: %HOST%", "Host: %HOST%\r\nHost: other", "host: other\r\nX-A: b\r\nHOST: %HOST%",
             "X-A: no host", "Host: user@%HOST%", "Host: user:secret@%HOST%", "Host: a b", "Host: a,b",
             "Host: %HOST%, %HOST%", "Host: %HOST%:0", "Host: %HOST%:65536", "Host: %HOST%:99999999999",
             "Host: %HOST%/evil", "Host: %HOST%?evil", "Host: %HOST%#evil", "Host: %HOST%\\evil", "Host: <%HOST%>",
             "Host: %HOST%\xe4", "Host: http://%HOST%/"]
    cases = [raw("H1-8", text.replace(CRLF.decode(), " / "),
                 f"GET /evil HTTP/1.1\r\n{text}\r\n\r\n".encode("latin-1"), "bad-request", closes=False)
             for text in texts]
    for target in ["http://user@%HOST%/evil", "http://%HOST%:0/evil", "http://%HOST%:65536/evil", "http://a,b/evil"]:
        data = f"GET {target} HTTP/1.1\r\nHost: %HOST%\r\n\r\n".encode()
        cases.append(raw("H1-8", f"target {target}", data, "bad-request", closes=False))
    for lines in ["Host: %HOST%\r\nHost: other", "Host: %HOST%\r\nHost: %HOST%"]:
        data = f"GET http://%HOST%/evil HTTP/1.1\r\n{lines}\r\n\r\n".encode()
        cases.append(raw("H1-8", f"absolute target and {lines!r}", data, "bad-request", closes=False))
    for target, wanted in [("http://%HOST%/abs?b=c", "/abs?b=c"), ("http://%HOST%", "/"), ("http://%HOST%?b", "/?b")]:
        data = f"GET {target} HTTP/1.1\r\nHost: someone.else\r\n\r\n".encode()
        cases.append(Passed("H1-8", f"{target} wins over Host", data, [wanted]))
    return cases


def methods():
    """H1-14."""
    rest = b" /evil HTTP/1.1\r\nHost: %HOST%\r\n\r\n"
    cases = [
        raw("H1-14", "HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""),
        raw("H1-14", "lower case", b"get" + rest, "method"),
        raw("H1-14", "mixed case", b"Get" + rest, "method"),
        raw("H1-14", "33 bytes", b"M" * 33 + rest, "method"),
        raw("H1-14", "no token", b"G@T" + rest, "method"),
        raw("H1-14", "1 MB", b"M" * (1 << 20) + rest, "line-too-long", statuses=(400, 414), silent=True),
        raw("H1-14", "TRACE with bad Max-Forwards",
            b"TRACE /evil HTTP/1.1\r\nHost: %HOST%\r\nMax-Forwards: many\r\n\r\n", "bad-request", closes=False),
    ]
    for target in ["%HOST%:443", "/evil", "*", "127.0.0.1:22"]:
        data = f"CONNECT {target} HTTP/1.1\r\nHost: %HOST%\r\n\r\n".encode()
        cases.append(raw("H1-14", f"CONNECT {target}", data, "method-not-allowed", (405, 501), closes=False))
    return cases


def expectations():
    """H1-11, the refusals: a body that was never read is never taken for a request."""
    evil = b"GET /evil HTTP/1.1\r\nHost: x\r\n\r\n"
    head = b"POST /evil HTTP/1.1\r\nHost: %HOST%\r\nExpect: y\r\n" + line(f"Content-Length: {len(evil)}") + CRLF + evil
    bodyless = b"GET /evil HTTP/1.1\r\nHost: %HOST%\r\nExpect: y\r\n\r\n"
    return [
        raw("H1-11", "unknown, with a body", head, "expectation", (417,)),
        raw("H1-11", "unknown, without a body", bodyless, "expectation", (417,), closes=False),
    ]


def legal():
    """H1-11, 12 and 17: what looks like an attack and is well-formed, exactly once."""
    evil = b"GET /evil HTTP/1.1\r\nHost: %HOST%\r\n\r\n"
    chunk = b"%x\r\n" % 200 + b"e" * 200 + b"\r\n0\r\n\r\n"
    inner = b"GET /evil HTTP/1.1\r\nHost: x\r\n\r\n"
    inner_chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (len(inner), inner)
    long = b"Content-Length: %d\r\n" % len(inner)
    te = b"Transfer-Encoding: chunked\r\n"
    host = b"Host: %HOST%\r\n"
    two = b"GET /two HTTP/1.1\r\n" + host + b"\r\n"

    def pair(name, first, body, ident="H1-17"):
        return Passed(ident, name, first + b"\r\n" + body + two, ["/one", "/two"])

    return [
        pair("a request in a body", b"POST /one HTTP/1.1\r\n" + host + long, inner),
        pair("a request in the body of a GET", b"GET /one HTTP/1.1\r\n" + host + long, inner, "H1-12"),
        pair("a request in a body of OPTIONS", b"OPTIONS /one HTTP/1.1\r\n" + host + long, inner, "H1-12"),
        pair("a request in the body of a DELETE", b"DELETE /one HTTP/1.1\r\n" + host + long, inner, "H1-12"),
        pair("a request in a chunk", b"POST /one HTTP/1.1\r\n" + host + te, inner_chunk),
        pair("a chunked GET", b"GET /one HTTP/1.1\r\n" + host + te, inner_chunk, "H1-12"),
        pair("CHUNKED", b"POST /one HTTP/1.1\r\n" + host + b"Transfer-Encoding: CHUNKED\r\n", chunk),
        pair("extension and zeros", b"POST /one HTTP/1.1\r\n" + host + te, b"5;a=b\r\nhello\r\n000\r\n\r\n"),
        pair("Connection names the length", b"POST /one HTTP/1.1\r\n" + host + b"Connection: content-length\r\n" + long,
             inner),
        pair("Connection names the coding",
             b"POST /one HTTP/1.1\r\n" + host + b"Connection: transfer-encoding\r\n" + te, inner_chunk),
        Passed("H1-4", "HTTP/1.0 with a length", b"POST /one HTTP/1.0\r\n" + host + long + b"\r\n" + inner, ["/one"],
               closes=True),
        Passed("H1-4", "HTTP/1.0 that goes on, if the server's answer lets it",
               b"POST /one HTTP/1.0\r\n" + host + b"Connection: keep-alive\r\n" + long + b"\r\n" + inner, ["/one"],
               closes="maybe"),
        pair("an empty line between", b"POST /one HTTP/1.1\r\n" + host + b"Content-Length: 0\r\n", b"\r\n"),
        pair("Expect and the body at once",
             b"POST /one HTTP/1.1\r\n" + host + b"Expect: 100-continue\r\n" + long, inner, "H1-11"),
        pair("Expect with a GET body", b"GET /one HTTP/1.1\r\n" + host + b"Expect: 100-continue\r\n" + long, inner,
             "H1-11"),
        pair("Expect without a body", b"GET /one HTTP/1.1\r\n" + host + b"Expect: 100-continue\r\n", b"", "H1-11"),
        Passed("H1-12", "HEAD", b"HEAD /one HTTP/1.1\r\n" + host + b"\r\n" + evil.replace(b"evil", b"two"),
               ["/one", "/two"], methods=["HEAD", "GET"]),
    ]


CASES = [*lengths(), *codings(), *chunks(), *fields(), *hosts(), *methods(), *expectations(), *legal()]
