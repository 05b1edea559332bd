package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
)

// other starts a server in a process of its own.
func (l *lab) other(port int) (*exec.Cmd, error) {
	arguments := []string{"serve", "-port", strconv.Itoa(port), "-cert", l.given.cert, "-key", l.given.key}
	command := exec.Command(os.Args[0], arguments...)
	output, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	_, err = output.Read(make([]byte, 16))
	return command, err
}

func end(command *exec.Cmd) {
	_ = command.Process.Kill()
	_ = command.Wait()
}

// killed: clients of a server that dies see UNAVAILABLE, and are served again once it is back.
func killed(l *lab) (string, error) {
	ctx, done := within(20 * time.Second)
	defer done()
	first, err := l.other(l.given.ports[diesPort])
	if err != nil {
		return "", err
	}
	streams := []grpc.ClientStream{}
	for range 3 {
		stream, err := ask(l, ctx, "dies", "Hang", unique())
		if err == nil {
			_, err = receive(stream)
		}
		if err != nil {
			end(first)
			return "", err
		}
		streams = append(streams, stream)
	}
	end(first)
	at := time.Now()
	for _, stream := range streams {
		_, err := receive(stream)
		if problem := expect(err, codes.Unavailable); problem != nil {
			return "", problem
		}
	}
	took := time.Since(at)
	second, err := l.other(l.given.ports[diesPort])
	if err != nil {
		return "", err
	}
	defer end(second)
	back := eventually("service after the restart", 10*time.Second, func() bool {
		_, err := l.call(ctx, "dies", "Who", "")
		return err == nil
	})
	return fmt.Sprintf("told within %v", took.Round(time.Millisecond)), back
}

// rolling: three servers are stopped gracefully and started again, one after the other, under load.
func rolling(l *lab) (string, error) {
	servers := []*server{}
	for number := range 3 {
		one, err := start(l.given, l.given.ports[rollingPort+number], fmt.Sprintf("server-%d", number), 0)
		if err != nil {
			return "", err
		}
		servers = append(servers, one)
	}
	stop, calls, failures := make(chan struct{}), atomic.Int64{}, sync.Map{}
	var group sync.WaitGroup
	for number := range 8 {
		group.Add(1)
		go func() {
			defer group.Done()
			for {
				select {
				case <-stop:
					return
				default:
				}
				calls.Add(1)
				if err := rolled(l, number); err != nil {
					failures.Store(calls.Load(), err)
					time.Sleep(time.Millisecond)
				}
			}
		}()
	}
	var problem error
	for number := range servers {
		time.Sleep(300 * time.Millisecond)
		servers[number].grpc.GracefulStop()
		time.Sleep(100 * time.Millisecond)
		if servers[number], problem = start(l.given, servers[number].port, servers[number].name, 0); problem != nil {
			break
		}
	}
	time.Sleep(300 * time.Millisecond)
	close(stop)
	group.Wait()
	for _, one := range servers {
		if one != nil {
			one.grpc.Stop()
		}
	}
	count, sample := 0, any(nil)
	failures.Range(func(_, err any) bool {
		count, sample = count+1, err
		return true
	})
	if count > 0 {
		return "", fmt.Errorf("%d of %d calls failed, one with: %v", count, calls.Load(), sample)
	}
	return fmt.Sprintf("%d calls", calls.Load()), problem
}

// rolled is one call of the load: unary, or a stream of ten messages.
func rolled(l *lab, number int) error {
	ctx, done := within(10 * time.Second)
	defer done()
	if number%2 == 0 {
		_, err := l.call(ctx, "rolling", "Echo", "unary")
		return err
	}
	stream, err := l.stream(ctx, "rolling", "Echo")
	if err != nil {
		return err
	}
	for message := range 10 {
		if err := exchange(stream, fmt.Sprint(message)); err != nil {
			return err
		}
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	if _, err := receive(stream); err != io.EOF {
		return fmt.Errorf("end of a stream: %w", err)
	}
	return nil
}

// drains: the router is told to stop while streams are open. They go on and end well, and the client is told to leave.
func drains(l *lab) (string, error) {
	ctx, done := within(20 * time.Second)
	defer done()
	conn, err := l.dial("one")
	if err != nil {
		return "", err
	}
	defer conn.Close()
	streams := []grpc.ClientStream{}
	for range 20 {
		stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/one/Echo")
		if err == nil {
			err = exchange(stream, "before")
		}
		if err != nil {
			return "", err
		}
		streams = append(streams, stream)
	}
	router, err := os.FindProcess(l.given.pid)
	if err == nil {
		err = router.Signal(syscall.SIGTERM)
	}
	if err != nil {
		return "", err
	}
	started := time.Now()
	if !conn.WaitForStateChange(ctx, connectivity.Ready) {
		return "", errors.New("no GOAWAY within 20 s")
	}
	told := time.Since(started)
	for round := range 5 {
		for number, stream := range streams {
			if err := exchange(stream, fmt.Sprintf("after %d %d", round, number)); err != nil {
				return "", fmt.Errorf("round %d after the router was told to stop: %w", round, err)
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	for _, stream := range streams {
		if err := stream.CloseSend(); err != nil {
			return "", err
		}
		if _, err := receive(stream); err != io.EOF {
			return "", fmt.Errorf("end of a stream: %w", err)
		}
	}
	return fmt.Sprintf("GOAWAY after %v, 20 streams went on", told.Round(time.Millisecond)), nil
}
