"""The interop service `grpc.testing.TestService` and a client of it, with grpcio.

Usage: peer.py serve [CERT KEY], prints its port; peer.py check TARGET [CA], prints a line of JSON for each case.
The few messages are written by hand, so that there is no generated code.
"""

import json
import sys
import time
from concurrent import futures

import grpc

SERVICE = "/grpc.testing.TestService/"
REQUESTS, RESPONSES = [27182, 8, 1828, 45904], [31415, 9, 2653, 58979]
INITIAL, TRAILING = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"
SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
CHANNEL = [("grpc.max_receive_message_length", 32 << 20)]


def varint(number):
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes(found + bytes([number]))


def field(number, value):
    """One field of a message: a number, or bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def read_varint(data, at):
    number = shift = 0
    while True:
        number |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 128:
            return number, at


def fields(data):
    """Field number to its values."""
    found, at = {}, 0
    while at < len(data):
        key, at = read_varint(data, at)
        value, at = read_varint(data, at)
        if key & 7 == 2:
            value, at = data[at:at + value], at + value
        found.setdefault(key >> 3, []).append(value)
    return found


def payload(size):
    return field(2, bytes(size))


def size_of(message, number):
    """The length of the body of the payload in this field."""
    return len(fields(fields(message)[number][0]).get(2, [b""])[0])


def status_of(message):
    """Code and text of field 7, which both kinds of requests have."""
    inner = fields(message.get(7, [b""])[0])
    return inner.get(1, [0])[0], inner.get(2, [b""])[0].decode()


CODES = {code.value[0]: code for code in grpc.StatusCode}


def echo_metadata(context):
    asked = dict(context.invocation_metadata())
    if INITIAL in asked:
        context.send_initial_metadata([(INITIAL, asked[INITIAL])])
    if TRAILING in asked:
        context.set_trailing_metadata([(TRAILING, asked[TRAILING])])


def unary(request, context):
    echo_metadata(context)
    asked = fields(request)
    code, text = status_of(asked)
    if code:
        context.abort(CODES[code], text)
    return field(1, payload(asked.get(2, [0])[0]))


def output(request, context):
    asked = fields(request)
    code, text = status_of(asked)
    if code:
        context.abort(CODES[code], text)
    for parameters in asked.get(2, []):
        wanted = fields(parameters)
        time.sleep(wanted.get(2, [0])[0] / 1e6)
        yield field(1, payload(wanted.get(1, [0])[0]))


def incoming(requests, _):
    return field(1, sum(size_of(request, 1) for request in requests))


def duplex(requests, context):
    echo_metadata(context)
    for request in requests:
        yield from output(request, context)


def serve(cert=None, key=None):
    server = grpc.server(futures.ThreadPoolExecutor(32), options=CHANNEL)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("grpc.testing.TestService", {
        "EmptyCall": grpc.unary_unary_rpc_method_handler(lambda *_: b""),
        "UnaryCall": grpc.unary_unary_rpc_method_handler(unary),
        "StreamingOutputCall": grpc.unary_stream_rpc_method_handler(output),
        "StreamingInputCall": grpc.stream_unary_rpc_method_handler(incoming),
        "FullDuplexCall": grpc.stream_stream_rpc_method_handler(duplex),
    })])
    if cert is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        identity = grpc.ssl_server_credentials([(read(key), read(cert))])
        port = server.add_secure_port("127.0.0.1:0", identity)
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


def read(path):
    with open(path, "rb") as file:
        return file.read()


def expect(found, wanted, what="answer"):
    if found != wanted:
        raise AssertionError(f"{what}: {found!r} instead of {wanted!r}")


class Client:
    """Each method named after an interop case is one."""

    def __init__(self, channel):
        self.empty = channel.unary_unary(SERVICE + "EmptyCall")
        self.unary = channel.unary_unary(SERVICE + "UnaryCall")
        self.output = channel.unary_stream(SERVICE + "StreamingOutputCall")
        self.input = channel.stream_unary(SERVICE + "StreamingInputCall")
        self.duplex = channel.stream_stream(SERVICE + "FullDuplexCall")
        self.method = channel.unary_unary(SERVICE + "UnimplementedCall")
        self.service = channel.unary_unary("/grpc.testing.UnimplementedService/UnimplementedCall")

    def empty_unary(self):
        expect(self.empty(b"", timeout=10), b"")

    def large_unary(self):
        answer = self.unary(field(2, 314159) + field(3, payload(271828)), timeout=10)
        expect(size_of(answer, 1), 314159)

    def client_streaming(self):
        answer = self.input(iter([field(1, payload(size)) for size in REQUESTS]), timeout=10)
        expect(fields(answer)[1][0], sum(REQUESTS))

    def server_streaming(self):
        asked = b"".join(field(2, field(1, size)) for size in RESPONSES)
        expect([size_of(answer, 1) for answer in self.output(asked, timeout=10)], RESPONSES)

    def ping_pong(self):
        asked = ((field(2, field(1, response)) + field(3, payload(request)))
                 for request, response in zip(REQUESTS, RESPONSES))
        expect([size_of(answer, 1) for answer in self.duplex(asked, timeout=10)], RESPONSES)

    def empty_stream(self):
        expect(list(self.duplex(iter([]), timeout=10)), [])

    def timeout_on_sleeping_server(self):
        asked = field(2, field(1, 10) + field(2, 1_000_000))
        self.fails(lambda: list(self.output(asked, timeout=0.1)), "DEADLINE_EXCEEDED")

    def cancel_after_begin(self):
        call = self.input.future(iter(futures.Future().result, None), timeout=10)
        call.cancel()
        expect(call.cancelled() and call.code().name, "CANCELLED")

    def cancel_after_first_response(self):
        call = self.duplex(iter(Once(field(2, field(1, 31415)))), timeout=10)
        expect(size_of(next(call), 1), 31415)
        call.cancel()
        self.fails(lambda: next(call), "CANCELLED")

    def status_code_and_message(self):
        asked = field(7, field(1, 2) + field(2, b"test status message"))
        self.fails(lambda: self.unary(asked, timeout=10), "UNKNOWN", "test status message")
        self.fails(lambda: list(self.duplex(iter([asked]), timeout=10)), "UNKNOWN", "test status message")

    def special_status_message(self):
        asked = field(7, field(1, 2) + field(2, SPECIAL.encode()))
        self.fails(lambda: self.unary(asked, timeout=10), "UNKNOWN", SPECIAL)

    def unimplemented_method(self):
        self.fails(lambda: self.method(b"", timeout=10), "UNIMPLEMENTED")

    def unimplemented_service(self):
        self.fails(lambda: self.service(b"", timeout=10), "UNIMPLEMENTED")

    def custom_metadata(self):
        ours = [(INITIAL, "test_initial_metadata_value"), (TRAILING, b"\xab\xab\xab")]
        _, call = self.unary.with_call(field(2, 10), metadata=ours, timeout=10)
        self.echoed(call, ours)
        call = self.duplex(iter([field(2, field(1, 10))]), metadata=ours, timeout=10)
        expect(len(list(call)), 1)
        self.echoed(call, ours)

    def echoed(self, call, ours):
        expect(dict(call.initial_metadata()).get(INITIAL), ours[0][1], "initial metadata")
        expect(dict(call.trailing_metadata()).get(TRAILING), ours[1][1], "trailing metadata")

    def fails(self, work, code, text=None):
        try:
            work()
        except grpc.RpcError as error:
            expect(error.code().name, code, "status")
            if text is not None:
                expect(error.details(), text, "text")
            return
        raise AssertionError(f"no {code}")


class Once:
    """A request stream of one message that stays open for a while."""

    def __init__(self, message):
        self.message = message

    def __iter__(self):
        yield self.message
        time.sleep(1)


CASES = ["empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream",
         "timeout_on_sleeping_server", "cancel_after_begin", "cancel_after_first_response", "status_code_and_message",
         "special_status_message", "unimplemented_method", "unimplemented_service", "custom_metadata"]


def check(target, ca=None):
    if ca is None:
        channel = grpc.insecure_channel(target, CHANNEL)
    else:
        override = ("grpc.ssl_target_name_override", "mesh.example")
        channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(read(ca)), [*CHANNEL, override])
    client = Client(channel)
    for case in CASES:
        started, problem = time.monotonic(), ""
        try:
            getattr(client, case)()
        except (grpc.RpcError, AssertionError) as error:
            problem = f"{type(error).__name__}: {error}"
        ms = round((time.monotonic() - started) * 1000)
        print(json.dumps({"case": case, "held": not problem, "detail": problem, "ms": ms}), flush=True)
    channel.close()


if __name__ == "__main__":
    {"serve": serve, "check": check}[sys.argv[1]](*sys.argv[2:])
