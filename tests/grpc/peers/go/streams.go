package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// cancel: of 20 calls that the client cancels, the server hears of all but one within 100 ms, and of that within 1 s.
func cancel(l *lab) (string, error) {
	took := []time.Duration{}
	for range 20 {
		ctx, cancelled := context.WithCancel(context.Background())
		id := unique()
		stream, err := ask(l, ctx, "one", "Hang", id)
		if err == nil {
			_, err = receive(stream)
		}
		at := time.Now()
		cancelled()
		if err != nil {
			return "", err
		}
		if err := eventually("the cancel at the server", time.Second, func() bool { return l.endOf(id) != nil }); err != nil {
			return "", err
		}
		took = append(took, l.endOf(id).Sub(at))
	}
	slices.Sort(took)
	if took[len(took)-2] > 100*time.Millisecond {
		return "", fmt.Errorf("took %v", took)
	}
	return fmt.Sprintf("median %v, longest %v", took[10].Round(time.Microsecond), took[19].Round(time.Microsecond)), nil
}

// cancelEarly: the same while the server has sent nothing yet.
func cancelEarly(l *lab) (string, error) {
	ctx, cancelled := context.WithCancel(context.Background())
	defer cancelled()
	id := unique()
	stream, err := ask(l, ctx, "one", "Stall", id)
	if err != nil {
		return "", err
	}
	there := func() bool { _, found := l.servers[0].begun.Load(id); return found }
	if err := eventually("the call at the server", time.Second, there); err != nil {
		return "", err
	}
	at := time.Now()
	cancelled()
	if _, err := receive(stream); expect(err, codes.Canceled) != nil {
		return "", err
	}
	if err := eventually("the cancel at the server", time.Second, func() bool { return l.endOf(id) != nil }); err != nil {
		return "", err
	}
	took := l.endOf(id).Sub(at)
	if took > 100*time.Millisecond {
		return "", fmt.Errorf("took %v", took)
	}
	return took.Round(time.Microsecond).String(), nil
}

// together opens so many streams of one connection, has each echo a message when all are open, and ends them.
func together(l *lab, service string, count int) (string, error) {
	ctx, done := within(40 * time.Second)
	defer done()
	started := time.Now()
	var opened sync.WaitGroup
	opened.Add(count)
	err := several(count, func(number int) error {
		stream, err := l.stream(ctx, service, "Echo")
		if err == nil {
			err = exchange(stream, fmt.Sprintf("first %d", number))
		}
		opened.Done()
		if err != nil {
			return err
		}
		opened.Wait()
		if err := exchange(stream, fmt.Sprintf("second %d", number)); err != nil {
			return err
		}
		if err := stream.CloseSend(); err != nil {
			return err
		}
		if _, err = receive(stream); err == nil {
			return errors.New("a message too many")
		}
		return nil
	})
	return fmt.Sprintf("%d streams, %v", count, time.Since(started).Round(time.Millisecond)), err
}

func exchange(stream grpc.ClientStream, text string) error {
	if err := send(stream, []byte(text)); err != nil {
		return err
	}
	answer, err := receive(stream)
	if err != nil || string(answer) != text {
		return fmt.Errorf("%q instead of %q, %w", answer, text, err)
	}
	return nil
}

func manyStreams(l *lab) (string, error) { return together(l, "one", 1000) }

// limited: the server takes 100 streams of a connection, so the router needs several.
func limited(l *lab) (string, error) { return together(l, "limited", 4*limitedSteps) }

// slowReader: a client that does not read stops the sender, while another call of its connection goes on.
func slowReader(l *lab) (string, error) {
	ctx, done := within(40 * time.Second)
	defer done()
	const count, size = 1024, 64 << 10
	one := l.servers[0]
	before := one.sent.Load()
	stream, err := ask(l, ctx, "one", "Blob", fmt.Sprintf("%d %d", count, size))
	if err != nil {
		return "", err
	}
	held, last := int64(0), time.Now()
	for time.Since(last) < time.Second {
		if now := one.sent.Load() - before; now > held {
			held, last = now, time.Now()
		}
		if _, err := l.call(ctx, "one", "Echo", "beside it"); err != nil {
			return "", err
		}
		time.Sleep(5 * time.Millisecond)
	}
	if held > 16<<20 {
		return "", fmt.Errorf("the server could send %d bytes to a client that reads none", held)
	}
	return fmt.Sprintf("held after %d kB", held>>10), drain(stream, count)
}

// abandoned: calls that clients cancel at random points harm no other.
func abandoned(l *lab) (string, error) {
	count := 2000
	if l.given.quick {
		count = 400
	}
	return fmt.Sprintf("%d calls", count), several(20, func(int) error {
		for number := range count / 20 {
			ctx, done := within(20 * time.Second)
			stream, err := ask(l, ctx, "one", "Blob", "10 5000")
			if err == nil && number%2 == 0 {
				for range rand.Intn(10) {
					if _, err = receive(stream); err != nil {
						break
					}
				}
			} else if err == nil {
				err = drain(stream, 10)
			}
			done()
			if err != nil {
				return fmt.Errorf("call %d: %w", number, err)
			}
		}
		return nil
	})
}

// nothingLeft: after all of it, no call is still running at a server.
func nothingLeft(l *lab) (string, error) {
	return "", eventually("no call at any server", 3*time.Second, func() bool {
		for _, one := range l.servers {
			if one.active.Load() != 0 {
				return false
			}
		}
		return true
	})
}
