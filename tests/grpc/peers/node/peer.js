// The interop service `grpc.testing.TestService` and a client of it, with @grpc/grpc-js.
//
// Usage: peer.js serve [CERT KEY], prints its port; peer.js check TARGET [CA], prints a line of JSON for each case.
// The few messages are written by hand, so that there is no generated code.
'use strict';
const fs = require('fs');
const grpc = require('@grpc/grpc-js');

const SERVICE = '/grpc.testing.TestService/';
const REQUESTS = [27182, 8, 1828, 45904];
const RESPONSES = [31415, 9, 2653, 58979];
const INITIAL = 'x-grpc-test-echo-initial';
const TRAILING = 'x-grpc-test-echo-trailing-bin';
const SPECIAL = '\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n';
const OPTIONS = { 'grpc.max_receive_message_length': 32 << 20 };

function varint(number) {
  const found = [];
  for (; number > 127; number >>>= 7) found.push((number & 127) | 128);
  return Buffer.from([...found, number]);
}

// One field of a message: a number, or bytes.
function field(number, value) {
  if (typeof value === 'number') return Buffer.concat([varint(number << 3), varint(value)]);
  return Buffer.concat([varint((number << 3) | 2), varint(value.length), value]);
}

function readVarint(data, at) {
  let number = 0;
  for (let shift = 0; ; shift += 7) {
    number |= (data[at] & 127) << shift;
    if (data[at++] < 128) return [number, at];
  }
}

// Field number to its values.
function fields(data) {
  const found = {};
  for (let at = 0; at < data.length;) {
    let key, value;
    [key, at] = readVarint(data, at);
    [value, at] = readVarint(data, at);
    if ((key & 7) === 2) {
      const end = at + value;
      value = data.subarray(at, end);
      at = end;
    }
    (found[key >> 3] ||= []).push(value);
  }
  return found;
}

const first = (found, number, otherwise) => (found[number] || [otherwise])[0];
const payload = (size) => field(2, Buffer.alloc(size));
const sizeOf = (message, number) => first(fields(first(fields(message), number, Buffer.alloc(0))), 2, '').length;

// The status that field 7 asks for, or null.
function statusOf(asked) {
  const inner = fields(first(asked, 7, Buffer.alloc(0)));
  const code = first(inner, 1, 0);
  return code === 0 ? null : { code, details: first(inner, 2, Buffer.alloc(0)).toString() };
}

function echoMetadata(call) {
  const trailing = new grpc.Metadata();
  const initial = call.metadata.get(INITIAL);
  if (initial.length > 0) {
    const head = new grpc.Metadata();
    head.set(INITIAL, initial[0]);
    call.sendMetadata(head);
  }
  for (const value of call.metadata.get(TRAILING)) trailing.add(TRAILING, value);
  return trailing;
}

function unary(call, answer) {
  const trailing = echoMetadata(call);
  const asked = fields(call.request);
  const status = statusOf(asked);
  if (status) answer({ ...status, metadata: trailing });
  else answer(null, field(1, payload(first(asked, 2, 0))), trailing);
}

async function outputs(call, request) {
  const asked = fields(request);
  const status = statusOf(asked);
  if (status) {
    call.emit('error', status);
    return false;
  }
  for (const parameters of asked[2] || []) {
    const wanted = fields(parameters);
    const micros = first(wanted, 2, 0);
    if (micros > 0) await new Promise((done) => setTimeout(done, micros / 1000));
    if (call.cancelled) return false;
    call.write(field(1, payload(first(wanted, 1, 0))));
  }
  return true;
}

async function output(call) {
  if (await outputs(call, call.request)) call.end();
}

function incoming(call, answer) {
  let sum = 0;
  call.on('data', (request) => { sum += sizeOf(request, 1); });
  call.on('end', () => answer(null, field(1, sum)));
}

function duplex(call) {
  const trailing = echoMetadata(call);
  let work = Promise.resolve(true);
  call.on('data', (request) => { work = work.then((going) => going && outputs(call, request)); });
  call.on('end', async () => { if (await work) call.end(trailing); });
}

const bytes = (value) => value;
function method(name, requestStream, responseStream) {
  return { path: SERVICE + name, requestStream, responseStream, requestSerialize: bytes, requestDeserialize: bytes,
    responseSerialize: bytes, responseDeserialize: bytes };
}

function serve(cert, key) {
  const server = new grpc.Server(OPTIONS);
  server.addService({
    EmptyCall: method('EmptyCall', false, false), UnaryCall: method('UnaryCall', false, false),
    StreamingOutputCall: method('StreamingOutputCall', false, true),
    StreamingInputCall: method('StreamingInputCall', true, false),
    FullDuplexCall: method('FullDuplexCall', true, true),
  }, { EmptyCall: (_, answer) => answer(null, Buffer.alloc(0)), UnaryCall: unary, StreamingOutputCall: output,
    StreamingInputCall: incoming, FullDuplexCall: duplex });
  const identity = cert === undefined ? grpc.ServerCredentials.createInsecure()
    : grpc.ServerCredentials.createSsl(null, [{ cert_chain: fs.readFileSync(cert), private_key: fs.readFileSync(key) }]);
  server.bindAsync('127.0.0.1:0', identity, (error, port) => {
    if (error) throw error;
    console.log(port);
  });
}

function expect(found, wanted, what = 'answer') {
  if (JSON.stringify(found) !== JSON.stringify(wanted)) {
    throw new Error(`${what}: ${JSON.stringify(found)} instead of ${JSON.stringify(wanted)}`);
  }
}

const soon = (ms = 10000) => ({ deadline: Date.now() + ms });
const none = () => new grpc.Metadata();

// Everything about one call when it has ended: its messages, metadata and status. `ask` sends the requests.
function ended(call, ask = () => {}) {
  return new Promise((done) => {
    const found = { messages: [], head: none() };
    call.on('metadata', (head) => { found.head = head; });
    call.on('data', (message) => { found.messages.push(message); if (found.each) found.each(message); });
    call.on('error', () => {});
    call.on('status', (status) => done({ ...found, code: status.code, text: status.details, tail: status.metadata }));
    ask(found);
  });
}

class Client {
  constructor(target, identity, options) {
    this.client = new grpc.Client(target, identity, options);
  }

  unary(request, path = SERVICE + 'UnaryCall', metadata = none()) {
    return new Promise((done) => {
      const found = { head: none() };
      const call = this.client.makeUnaryRequest(path, bytes, bytes, request, metadata, soon(), (error, answer) => {
        found.answer = answer;
        found.text = error ? error.details : '';
      });
      call.on('metadata', (head) => { found.head = head; });
      call.on('status', (status) => setImmediate(() => done({ ...found, code: status.code, tail: status.metadata })));
    });
  }

  output(request, ms) {
    return this.client.makeServerStreamRequest(SERVICE + 'StreamingOutputCall', bytes, bytes, request, none(), soon(ms));
  }

  duplex(metadata = none()) {
    return this.client.makeBidiStreamRequest(SERVICE + 'FullDuplexCall', bytes, bytes, metadata, soon());
  }

  input(answered) {
    return this.client.makeClientStreamRequest(SERVICE + 'StreamingInputCall', bytes, bytes, none(), soon(), answered);
  }
}

const CASES = {
  async empty_unary(client) {
    const { code, answer } = await client.unary(Buffer.alloc(0), SERVICE + 'EmptyCall');
    expect([code, answer.length], [0, 0]);
  },
  async large_unary(client) {
    const { code, answer } = await client.unary(Buffer.concat([field(2, 314159), field(3, payload(271828))]));
    expect([code, sizeOf(answer, 1)], [0, 314159]);
  },
  client_streaming: (client) => new Promise((done, failed) => {
    const call = client.input((error, answer) => {
      if (error) failed(error);
      else if (first(fields(answer), 1, 0) !== REQUESTS.reduce((sum, size) => sum + size)) failed(new Error('wrong sum'));
      else done();
    });
    for (const size of REQUESTS) call.write(field(1, payload(size)));
    call.end();
  }),
  async server_streaming(client) {
    const asked = Buffer.concat(RESPONSES.map((size) => field(2, field(1, size))));
    const { code, messages } = await ended(client.output(asked));
    expect([code, messages.map((message) => sizeOf(message, 1))], [0, RESPONSES]);
  },
  async ping_pong(client) {
    const call = client.duplex();
    const ask = (at) => call.write(Buffer.concat([field(2, field(1, RESPONSES[at])), field(3, payload(REQUESTS[at]))]));
    const { code, messages } = await ended(call, (found) => {
      found.each = () => { if (found.messages.length < 4) ask(found.messages.length); else call.end(); };
      ask(0);
    });
    expect([code, messages.map((message) => sizeOf(message, 1))], [0, RESPONSES]);
  },
  async empty_stream(client) {
    const call = client.duplex();
    const { code, messages } = await ended(call, () => call.end());
    expect([code, messages.length], [0, 0]);
  },
  async timeout_on_sleeping_server(client) {
    const { code } = await ended(client.output(field(2, Buffer.concat([field(1, 10), field(2, 1000000)])), 100));
    expect(code, grpc.status.DEADLINE_EXCEEDED, 'status');
  },
  async cancel_after_begin(client) {
    const call = client.input(() => {});
    const { code } = await ended(call, () => setImmediate(() => call.cancel()));
    expect(code, grpc.status.CANCELLED, 'status');
  },
  async cancel_after_first_response(client) {
    const call = client.duplex();
    const { code, messages } = await ended(call, (found) => {
      found.each = () => call.cancel();
      call.write(field(2, field(1, 31415)));
    });
    expect([code, messages.length], [grpc.status.CANCELLED, 1]);
  },
  async status_code_and_message(client) {
    const asked = field(7, Buffer.concat([field(1, 2), field(2, Buffer.from('test status message'))]));
    const one = await client.unary(asked);
    expect([one.code, one.text], [2, 'test status message']);
    const call = client.duplex();
    const both = await ended(call, () => { call.write(asked); call.end(); });
    expect([both.code, both.text], [2, 'test status message']);
  },
  async special_status_message(client) {
    const { code, text } = await client.unary(field(7, Buffer.concat([field(1, 2), field(2, Buffer.from(SPECIAL))])));
    expect([code, text], [2, SPECIAL]);
  },
  async unimplemented_method(client) {
    expect((await client.unary(Buffer.alloc(0), SERVICE + 'UnimplementedCall')).code, grpc.status.UNIMPLEMENTED);
  },
  async unimplemented_service(client) {
    const path = '/grpc.testing.UnimplementedService/UnimplementedCall';
    expect((await client.unary(Buffer.alloc(0), path)).code, grpc.status.UNIMPLEMENTED);
  },
  async custom_metadata(client) {
    const ours = none();
    ours.set(INITIAL, 'test_initial_metadata_value');
    ours.set(TRAILING, Buffer.from([0xab, 0xab, 0xab]));
    const one = await client.unary(field(2, 10), undefined, ours);
    const call = client.duplex(ours);
    const both = await ended(call, () => { call.write(field(2, field(1, 10))); call.end(); });
    for (const found of [one, both]) {
      expect([found.code, found.head.get(INITIAL), found.tail.get(TRAILING).map((value) => value.toString('hex'))],
        [0, ['test_initial_metadata_value'], ['ababab']], 'metadata');
    }
  },
};

async function check(target, ca) {
  const identity = ca === undefined ? grpc.credentials.createInsecure() : grpc.credentials.createSsl(fs.readFileSync(ca));
  const override = ca === undefined ? {} : { 'grpc.ssl_target_name_override': 'mesh.example' };
  const client = new Client(target, identity, { ...OPTIONS, ...override });
  for (const [name, run] of Object.entries(CASES)) {
    const started = Date.now();
    let problem = '';
    try {
      await run(client);
    } catch (error) {
      problem = String(error.message);
    }
    console.log(JSON.stringify({ case: name, held: problem === '', detail: problem, ms: Date.now() - started }));
  }
  client.client.close();
}

const [command, ...rest] = process.argv.slice(2);
if (command === 'serve') serve(...rest);
else check(...rest);
