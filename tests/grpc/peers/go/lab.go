package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Services of the checks, by the ports of `-ports`. `run.py` tells the router of them under the same names.
//
//	one, timed, flaky: port 0        three: ports 0, 1, 2         limited: port 3, with 100 streams a connection
//	dies: port 4, another process    rolling: ports 5, 6, 7       nobody: has no addresses
const (
	limitedPort  = 3
	diesPort     = 4
	rollingPort  = 5
	allPorts     = 8
	limitedSteps = 100
)

// lab is the servers of a run and how the router is reached.
type lab struct {
	given   options
	trust   *tls.Config
	servers []*server // of ports 0, 1, 2 and 3
	lock    sync.Mutex
	conns   map[string]*grpc.ClientConn
}

func open(given options) (*lab, error) {
	if len(given.ports) != allPorts {
		return nil, fmt.Errorf("-ports needs %d of them", allPorts)
	}
	found := &lab{given: given, conns: map[string]*grpc.ClientConn{}}
	if given.ca != "" {
		authority, err := os.ReadFile(given.ca)
		if err != nil {
			return nil, err
		}
		found.trust = &tls.Config{RootCAs: x509.NewCertPool()}
		found.trust.RootCAs.AppendCertsFromPEM(authority)
	}
	for index := range limitedPort + 1 {
		steps := 0
		if index == limitedPort {
			steps = limitedSteps
		}
		one, err := start(given, given.ports[index], fmt.Sprintf("server-%d", index), steps)
		if err != nil {
			return nil, err
		}
		found.servers = append(found.servers, one)
	}
	return found, eventually("the router serves `one`", 10*time.Second, func() bool {
		ctx, done := within(time.Second)
		defer done()
		_, err := found.call(ctx, "one", "Who", "")
		return err == nil
	})
}

func (l *lab) close() {
	for _, conn := range l.conns {
		conn.Close()
	}
	for _, one := range l.servers {
		one.grpc.Stop()
	}
}

// dial is a new connection to the router for calls of this service: it is their authority.
func (l *lab) dial(service string, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	identity := insecure.NewCredentials()
	if l.trust != nil {
		identity = credentials.NewTLS(l.trust)
	}
	settings := append([]grpc.DialOption{
		grpc.WithTransportCredentials(identity), grpc.WithAuthority(service), grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(plain{}), grpc.MaxCallRecvMsgSize(32<<20)),
	}, more...)
	return grpc.NewClient("passthrough:///"+l.given.target, settings...)
}

// conn is the one connection that all cases of this service share.
func (l *lab) conn(service string) *grpc.ClientConn {
	l.lock.Lock()
	defer l.lock.Unlock()
	if l.conns[service] == nil {
		conn, err := l.dial(service)
		must(err)
		l.conns[service] = conn
	}
	return l.conns[service]
}

// call makes one unary call.
func (l *lab) call(ctx context.Context, service, method, message string, more ...grpc.CallOption) (string, error) {
	request, response := []byte(message), []byte(nil)
	err := l.conn(service).Invoke(ctx, "/"+service+"/"+method, &request, &response, more...)
	return string(response), err
}

// stream opens a call that streams in both directions.
func (l *lab) stream(ctx context.Context, service, method string) (grpc.ClientStream, error) {
	both := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	return l.conn(service).NewStream(ctx, both, "/"+service+"/"+method)
}

// raw sends one gRPC message by Go's HTTP client and returns the response as HTTP has it. `timeout` is as in grpc-timeout;
// the client itself waits for 10 s.
func (l *lab) raw(service, method, message, timeout string) (*http.Response, error) {
	var protocols http.Protocols
	protocols.SetHTTP2(l.trust != nil)
	protocols.SetUnencryptedHTTP2(l.trust == nil)
	transport := &http.Transport{Protocols: &protocols, TLSClientConfig: l.trust.Clone(), DisableCompression: true}
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, l.given.target)
	}
	defer transport.CloseIdleConnections()
	scheme := map[bool]string{true: "https", false: "http"}[l.trust != nil]
	body := append([]byte{0, 0, 0, 0, byte(len(message))}, message...)
	request, err := http.NewRequest("POST", scheme+"://"+service+"/"+service+"/"+method, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("content-type", "application/grpc+bytes")
	request.Header.Set("te", "trailers")
	if timeout != "" {
		request.Header.Set("grpc-timeout", timeout)
	}
	client := http.Client{Transport: transport, Timeout: 10 * time.Second}
	return client.Do(request)
}

func within(limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), limit)
}

func with(ctx context.Context, fields metadata.MD) context.Context {
	return metadata.NewOutgoingContext(ctx, fields)
}

// expect is an error unless the call failed with this code.
func expect(err error, wanted ...codes.Code) error {
	for _, code := range wanted {
		if status.Code(err) == code {
			return nil
		}
	}
	return fmt.Errorf("expected %v, got %v", wanted, err)
}

// eventually waits for a condition.
func eventually(what string, limit time.Duration, good func() bool) error {
	for until := time.Now().Add(limit); time.Now().Before(until); time.Sleep(time.Millisecond) {
		if good() {
			return nil
		}
	}
	return fmt.Errorf("not within %v: %s", limit, what)
}
