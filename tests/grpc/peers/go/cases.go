package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// aCase is one line of the table.
type aCase struct {
	name string
	run  func(*lab) (string, error)
}

// lastCases are for a router that may be ended, whose process id `check` was given.
var lastCases = []aCase{{"the router stops: open streams go on", drains}}

// cases is what `check` runs otherwise, in this order.
var cases = []aCase{
	{"four call types", callTypes},
	{"gzip both ways", compressed},
	{"4 MB both ways, checksums", large},
	{"request metadata of 32 kB", func(l *lab) (string, error) { return fields(l, 32<<10, 0, 0) }},
	{"request metadata of 100 kB", func(l *lab) (string, error) { return fields(l, 100_000, 0, 0) }},
	{"response metadata of 100 kB", func(l *lab) (string, error) { return fields(l, 0, 100_000, 0) }},
	{"trailers of 64 kB", func(l *lab) (string, error) { return fields(l, 0, 0, 64<<10) }},
	{"trailers of 100 kB", func(l *lab) (string, error) { return fields(l, 0, 0, 100_000) }},
	{"trailers-only error stays so", trailersOnly},
	{"error before the upload ends", stopped},
	{"unknown name: grpc-status, l5d-err", nobody},
	{"deadline: never more than is left", deadline},
	{"deadline: the caller is told", told},
	{"deadline: shrinks with a retry", shrinking},
	{"deadline: the router gives up", givesUp},
	{"stream outlives limits to the head", outlives},
	{"balance: 300 calls of 1 connection", balanceCalls},
	{"balance: 30 open streams", balanceStreams},
	{"cancel reaches the server", cancel},
	{"cancel before an answer", cancelEarly},
	{"1,000 bidi streams at once", manyStreams},
	{"more streams than a server takes", limited},
	{"slow reader holds the sender", slowReader},
	{"half cancelled at random", abandoned},
	{"server killed mid-stream", killed},
	{"rolling restart loses no call", rolling},
	{"no stream left open", nothingLeft},
}

func callTypes(l *lab) (string, error) {
	ctx, done := within(10 * time.Second)
	defer done()
	if answer, err := l.call(ctx, "one", "Echo", "unary"); err != nil || answer != "unary" {
		return "", fmt.Errorf("unary: %q %v", answer, err)
	}
	stream, err := l.stream(ctx, "one", "Echo")
	if err != nil {
		return "", err
	}
	for number := range 20 {
		text := strings.Repeat("x", number*number)
		if err := send(stream, []byte(text)); err != nil {
			return "", err
		}
		if answer, err := receive(stream); err != nil || string(answer) != text {
			return "", fmt.Errorf("message %d of both directions: %d bytes, %v", number, len(answer), err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		return "", err
	}
	if _, err := receive(stream); err != io.EOF {
		return "", fmt.Errorf("end of both directions: %v", err)
	}
	if err := upload(l, ctx, 50, 1000); err != nil {
		return "", err
	}
	return "", download(l, ctx, 50, 1000)
}

// upload streams so many messages to the server and compares its hash.
func upload(l *lab, ctx context.Context, count, size int) error {
	stream, err := l.stream(ctx, "one", "Sum")
	if err != nil {
		return err
	}
	hash, data := sha256.New(), make([]byte, size)
	rand.Read(data)
	for number := range count {
		data[0] = byte(number)
		hash.Write(data)
		if err := send(stream, append([]byte(nil), data...)); err != nil {
			return fmt.Errorf("upload, message %d: %w", number, err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	answer, err := receive(stream)
	if wanted := fmt.Sprintf("%d %x", count, hash.Sum(nil)); err != nil || string(answer) != wanted {
		return fmt.Errorf("upload: %q instead of %q, %v", answer, wanted, err)
	}
	if _, err := receive(stream); err != io.EOF {
		return fmt.Errorf("end of the upload: %v", err)
	}
	return nil
}

// download reads a stream of the server and compares its hash.
func download(l *lab, ctx context.Context, count, size int) error {
	stream, err := ask(l, ctx, "one", "Blob", fmt.Sprintf("%d %d", count, size))
	if err != nil {
		return err
	}
	return drain(stream, count)
}

// ask opens a stream with this one message.
func ask(l *lab, ctx context.Context, service, method, message string) (grpc.ClientStream, error) {
	stream, err := l.stream(ctx, service, method)
	if err != nil {
		return nil, err
	}
	if err := send(stream, []byte(message)); err != nil {
		return nil, err
	}
	return stream, stream.CloseSend()
}

func drain(stream grpc.ClientStream, count int) error {
	hash, got := sha256.New(), 0
	for {
		message, err := receive(stream)
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("download, message %d: %w", got, err)
		}
		hash.Write(message)
		got++
	}
	wanted := strings.Join(stream.Trailer().Get("x-sum"), ",")
	if found := hex.EncodeToString(hash.Sum(nil)); got != count || found != wanted {
		return fmt.Errorf("download: %d messages of %d, hash %s instead of %q", got, count, found, wanted)
	}
	return nil
}

func compressed(l *lab) (string, error) {
	ctx, done := within(10 * time.Second)
	defer done()
	text := strings.Repeat("compress me ", 10_000)
	answer, err := l.call(ctx, "one", "Echo", text, grpc.UseCompressor("gzip"))
	if err != nil || answer != text {
		return "", fmt.Errorf("%d of %d bytes, %v", len(answer), len(text), err)
	}
	return "", nil
}

func large(l *lab) (string, error) {
	ctx, done := within(30 * time.Second)
	defer done()
	data := make([]byte, 4<<20)
	rand.Read(data)
	answer, err := l.call(ctx, "one", "Echo", string(data))
	if err != nil || sha256.Sum256([]byte(answer)) != sha256.Sum256(data) {
		return "", fmt.Errorf("echo: %d of %d bytes, %v", len(answer), len(data), err)
	}
	if err := upload(l, ctx, 4, 4<<20); err != nil {
		return "", err
	}
	return "", download(l, ctx, 4, 4<<20)
}

// fields sends metadata of these sizes and compares what arrives at either end.
func fields(l *lab, asked, initial, trailing int) (string, error) {
	ctx, done := within(10 * time.Second)
	defer done()
	var head, tail metadata.MD
	ours := filled("x-asked", asked)
	answer, err := l.call(with(ctx, ours), "one", "Metadata", fmt.Sprintf("%d %d", initial, trailing),
		grpc.Header(&head), grpc.Trailer(&tail))
	if err != nil {
		return "", err
	}
	if wanted := digest(ours, "x-asked"); answer != wanted {
		return "", fmt.Errorf("the server got %s, not %s", answer, wanted)
	}
	if found, wanted := digest(head, "x-initial"), digest(filled("x-initial", initial), "x-initial"); found != wanted {
		return "", fmt.Errorf("the head had %s, not %s", found, wanted)
	}
	if found, wanted := digest(tail, "x-trailing"), digest(filled("x-trailing", trailing), "x-trailing"); found != wanted {
		return "", fmt.Errorf("the trailers had %s, not %s", found, wanted)
	}
	return "", nil
}

func trailersOnly(l *lab) (string, error) {
	ctx, done := within(10 * time.Second)
	defer done()
	var tail metadata.MD
	_, err := l.call(ctx, "one", "Fail", "x", grpc.Trailer(&tail))
	if status.Code(err) != codes.FailedPrecondition || status.Convert(err).Message() != failText {
		return "", fmt.Errorf("got %v", err)
	}
	if fmt.Sprint(tail.Get("x-why"), tail.Get("x-bytes-bin")) != "[because] [\x00\xff]" {
		return "", fmt.Errorf("trailers are %v", tail)
	}
	response, err := l.raw("one", "Fail", "x", "")
	if err != nil {
		return "", err
	}
	return "", onlyTrailers(response, "9")
}

// onlyTrailers is an error unless the response is a single HEADERS frame with this status; "": any but 0.
func onlyTrailers(response *http.Response, wanted string) error {
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	found := response.Header.Get("grpc-status")
	if response.StatusCode != 200 || len(body) > 0 || len(response.Trailer) > 0 || found == "" {
		return fmt.Errorf("not only trailers: %s %v, body %q, then %v", response.Status, response.Header, body, response.Trailer)
	}
	if kind := response.Header.Get("content-type"); !strings.HasPrefix(kind, "application/grpc") {
		return fmt.Errorf("content-type is %q", kind)
	}
	if number, err := strconv.Atoi(found); err != nil || number == 0 || wanted != "" && found != wanted {
		return fmt.Errorf("grpc-status is %q", found)
	}
	return nil
}

// stopped: the server fails the call while the client still has much to send.
func stopped(l *lab) (string, error) {
	ctx, done := within(10 * time.Second)
	defer done()
	stream, err := l.stream(ctx, "one", "Stop")
	if err != nil {
		return "", err
	}
	data := make([]byte, 100_000)
	for range 1000 {
		if err := send(stream, data); err != nil {
			break
		}
	}
	_, err = receive(stream)
	return "", expect(err, codes.ResourceExhausted)
}

func nobody(l *lab) (string, error) {
	ctx, done := within(10 * time.Second)
	defer done()
	_, err := l.call(ctx, "nobody", "Echo", "x")
	if problem := expect(err, codes.Unavailable, codes.Unimplemented, codes.NotFound); problem != nil {
		return "", problem
	}
	response, raised := l.raw("nobody", "Echo", "x", "")
	if raised != nil {
		return "", raised
	}
	text := response.Header.Get("l5d-err")
	if problem := onlyTrailers(response, ""); problem != nil {
		return "", problem
	}
	if text == "" || status.Convert(err).Message() == "" {
		return "", fmt.Errorf("l5d-err is %q, grpc-message is %q", text, status.Convert(err).Message())
	}
	return fmt.Sprintf("grpc-status %s, l5d-err %q", response.Header.Get("grpc-status"), text), nil
}
