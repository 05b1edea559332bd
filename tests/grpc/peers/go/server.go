package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// plain is the codec of both sides: a message is a *[]byte.
type plain struct{}

func (plain) Marshal(message any) ([]byte, error) { return *message.(*[]byte), nil }
func (plain) Name() string                        { return "bytes" }
func (plain) Unmarshal(data []byte, message any) error {
	*message.(*[]byte) = data
	return nil
}

// server is one gRPC server and what it has seen.
type server struct {
	name   string
	port   int
	grpc   *grpc.Server
	active atomic.Int64
	sent   atomic.Int64
	begun  sync.Map // call id to time.Time: when Hang or Stall had its message
	ended  sync.Map // call id to time.Time: when its context was done
	tries  sync.Map // call id to *atomic.Int64
}

func start(given options, port int, name string, maxStreams int) (*server, error) {
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil, err
	}
	found := &server{name: name, port: listener.Addr().(*net.TCPAddr).Port}
	settings := []grpc.ServerOption{
		grpc.ForceServerCodec(plain{}), grpc.UnknownServiceHandler(found.handle), grpc.MaxRecvMsgSize(32 << 20),
	}
	if maxStreams > 0 {
		settings = append(settings, grpc.MaxConcurrentStreams(uint32(maxStreams)))
	}
	if given.cert != "" {
		identity, err := credentials.NewServerTLSFromFile(given.cert, given.key)
		if err != nil {
			return nil, err
		}
		settings = append(settings, grpc.Creds(identity))
	}
	found.grpc = grpc.NewServer(settings...)
	go func() { _ = found.grpc.Serve(listener) }()
	return found, nil
}

// handle answers every method of every service: the last segment of the path says what is to be done.
func (s *server) handle(_ any, stream grpc.ServerStream) error {
	s.active.Add(1)
	defer s.active.Add(-1)
	path, _ := grpc.MethodFromServerStream(stream)
	methods := map[string]func(grpc.ServerStream) error{
		"Echo": s.echo, "Who": s.who, "Fail": s.fail, "Metadata": s.metadata, "Deadline": s.deadline, "Hang": s.hang,
		"Stall": s.stall, "Sum": s.sum, "Blob": s.blob, "Flaky": s.flaky, "Stop": s.stop,
	}
	method, known := methods[path[strings.LastIndexByte(path, '/')+1:]]
	if !known {
		return status.Error(codes.Unimplemented, path)
	}
	return method(stream)
}

func receive(stream interface{ RecvMsg(any) error }) ([]byte, error) {
	var message []byte
	err := stream.RecvMsg(&message)
	return message, err
}

func send(stream interface{ SendMsg(any) error }, message []byte) error {
	return stream.SendMsg(&message)
}

func (s *server) echo(stream grpc.ServerStream) error {
	for {
		message, err := receive(stream)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := send(stream, message); err != nil {
			return err
		}
	}
}

func (s *server) who(stream grpc.ServerStream) error {
	if _, err := receive(stream); err != nil {
		return err
	}
	return send(stream, []byte(s.name))
}

const failText = "no, by the server: ü ☺ 100%"

func (s *server) fail(stream grpc.ServerStream) error {
	if _, err := receive(stream); err != nil {
		return err
	}
	stream.SetTrailer(metadata.Pairs("x-why", "because", "x-bytes-bin", "\x00\xff"))
	return status.Error(codes.FailedPrecondition, failText)
}

// metadata gets two sizes, sends so much initial metadata and so many bytes of trailers, and tells what it got itself.
func (s *server) metadata(stream grpc.ServerStream) error {
	message, err := receive(stream)
	if err != nil {
		return err
	}
	var initial, trailing int
	if _, err := fmt.Sscanf(string(message), "%d %d", &initial, &trailing); err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	asked, _ := metadata.FromIncomingContext(stream.Context())
	if err := stream.SendHeader(filled("x-initial", initial)); err != nil {
		return err
	}
	stream.SetTrailer(filled("x-trailing", trailing))
	return send(stream, []byte(digest(asked, "x-asked")))
}

// filled is metadata of this size in fields of 8 kB, of letters that do not compress away.
func filled(name string, size int) metadata.MD {
	found, letters := metadata.MD{}, rand.New(rand.NewSource(int64(size)))
	for number := 0; size > 0; number++ {
		value := make([]byte, min(size, 8192))
		for index := range value {
			value[index] = byte('!' + letters.Intn(94))
		}
		found.Append(fmt.Sprintf("%s-%02d", name, number), string(value))
		size -= len(value)
	}
	return found
}

// digest is the hash of all fields whose name starts so.
func digest(fields metadata.MD, prefix string) string {
	hash := sha256.New()
	for number := 0; ; number++ {
		values := fields[fmt.Sprintf("%s-%02d", prefix, number)]
		if len(values) == 0 {
			return fmt.Sprintf("%d fields %s", number, hex.EncodeToString(hash.Sum(nil)))
		}
		_, _ = io.WriteString(hash, strings.Join(values, ","))
	}
}

func left(ctx context.Context) string {
	until, set := ctx.Deadline()
	if !set {
		return "none"
	}
	return strconv.FormatInt(time.Until(until).Microseconds(), 10)
}

// deadline tells the microseconds that it was given.
func (s *server) deadline(stream grpc.ServerStream) error {
	if _, err := receive(stream); err != nil {
		return err
	}
	return send(stream, []byte(left(stream.Context())))
}

// flaky fails the first attempt of a call as unavailable after 300 ms, and is Deadline from then on.
func (s *server) flaky(stream grpc.ServerStream) error {
	message, err := receive(stream)
	if err != nil {
		return err
	}
	tries, _ := s.tries.LoadOrStore(string(message), new(atomic.Int64))
	if tries.(*atomic.Int64).Add(1) == 1 {
		time.Sleep(300 * time.Millisecond)
		return status.Error(codes.Unavailable, "try again")
	}
	return send(stream, []byte(left(stream.Context())))
}

// hang answers its head at once and then nothing, until it is cancelled.
func (s *server) hang(stream grpc.ServerStream) error {
	message, err := receive(stream)
	if err != nil {
		return err
	}
	if err := send(stream, []byte("here")); err != nil {
		return err
	}
	return s.wait(stream, message)
}

// stall answers nothing at all, until it is cancelled.
func (s *server) stall(stream grpc.ServerStream) error {
	message, err := receive(stream)
	if err != nil {
		return err
	}
	return s.wait(stream, message)
}

func (s *server) wait(stream grpc.ServerStream, id []byte) error {
	s.begun.Store(string(id), time.Now())
	<-stream.Context().Done()
	s.ended.Store(string(id), time.Now())
	return stream.Context().Err()
}

// sum hashes all messages of the client and answers with the hash and their number.
func (s *server) sum(stream grpc.ServerStream) error {
	hash, count := sha256.New(), 0
	for {
		message, err := receive(stream)
		if err == io.EOF {
			return send(stream, []byte(fmt.Sprintf("%d %x", count, hash.Sum(nil))))
		}
		if err != nil {
			return err
		}
		hash.Write(message)
		count++
	}
}

// blob gets "messages size" and sends that, with the hash of all in the trailer x-sum.
func (s *server) blob(stream grpc.ServerStream) error {
	message, err := receive(stream)
	if err != nil {
		return err
	}
	var count, size int
	if _, err := fmt.Sscanf(string(message), "%d %d", &count, &size); err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	hash, letters := sha256.New(), rand.New(rand.NewSource(int64(size)))
	for range count {
		data := make([]byte, size)
		letters.Read(data)
		hash.Write(data)
		if err := send(stream, data); err != nil {
			return err
		}
		s.sent.Add(int64(size))
	}
	stream.SetTrailer(metadata.Pairs("x-sum", hex.EncodeToString(hash.Sum(nil))))
	return nil
}

// stop ends a call with an error after its first message, however many the client still sends.
func (s *server) stop(stream grpc.ServerStream) error {
	if _, err := receive(stream); err != nil {
		return err
	}
	return status.Error(codes.ResourceExhausted, "enough")
}
