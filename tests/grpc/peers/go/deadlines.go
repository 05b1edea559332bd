package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
)

// slack is what a deadline may gain on the way by rounding and by the time that a frame travels.
const slack = 50 * time.Millisecond

// seen calls a method that tells the microseconds which the server was given.
func seen(l *lab, ctx context.Context, service, method, message string) (time.Duration, error) {
	answer, err := l.call(ctx, service, method, message)
	if err != nil {
		return 0, err
	}
	if answer == "none" {
		return 0, errors.New("the server was given no deadline")
	}
	micros, err := strconv.ParseInt(answer, 10, 64)
	return time.Duration(micros) * time.Microsecond, err
}

func deadline(l *lab) (string, error) {
	seenBy := []string{}
	for _, service := range []string{"one", "timed"} {
		for _, given := range []time.Duration{400 * time.Millisecond, 700 * time.Millisecond} {
			ctx, done := within(given)
			found, err := seen(l, ctx, service, "Deadline", "")
			done()
			if err != nil || found > given {
				return "", fmt.Errorf("%s: %v of %v at the server, %v", service, found, given, err)
			}
			seenBy = append(seenBy, fmt.Sprintf("%v of %v", found.Round(time.Millisecond), given))
		}
	}
	return strings.Join(seenBy, ", "), nil
}

// told: a call that hangs after its head ends with DEADLINE_EXCEEDED for a client that leaves the waiting to others.
func told(l *lab) (string, error) {
	took := []time.Duration{}
	for range 10 {
		started := time.Now()
		response, err := l.raw("one", "Hang", unique(), "200m")
		if err != nil {
			return "", err
		}
		_, err = io.Copy(io.Discard, response.Body)
		response.Body.Close()
		found := response.Trailer.Get("grpc-status")
		if err != nil || found != strconv.Itoa(int(codes.DeadlineExceeded)) {
			return "", fmt.Errorf("grpc-status %q after %v, %v", found, time.Since(started), err)
		}
		took = append(took, time.Since(started))
	}
	slices.Sort(took)
	if took[0] < 195*time.Millisecond || took[8] > time.Second {
		return "", fmt.Errorf("took %v instead of 200 ms", took)
	}
	return fmt.Sprintf("median %v of 200 ms", took[5].Round(time.Millisecond)), nil
}

// outlives: the limits of `timed`, requestAttemptTimeoutMs 1000 and totalTimeoutMs 3000, are about heads of responses.
func outlives(l *lab) (string, error) {
	ctx, done := within(20 * time.Second)
	defer done()
	stream, err := l.stream(ctx, "timed", "Echo")
	if err != nil {
		return "", err
	}
	started := time.Now()
	for time.Since(started) < 3500*time.Millisecond {
		if err := exchange(stream, "still there"); err != nil {
			return "", fmt.Errorf("after %v: %w", time.Since(started), err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return "", stream.CloseSend()
}

// shrinking: the first attempt fails after 300 ms, the router tries again.
func shrinking(l *lab) (string, error) {
	ctx, done := within(2 * time.Second)
	defer done()
	found, err := seen(l, ctx, "flaky", "Flaky", unique())
	if err != nil || found > 1700*time.Millisecond+slack {
		return "", fmt.Errorf("the second attempt was given %v of 2 s, 300 ms later, %v", found, err)
	}
	return fmt.Sprintf("%v of 2 s after 300 ms", found.Round(time.Millisecond)), nil
}

// givesUp: no answer within the requestAttemptTimeoutMs of `timed`.
func givesUp(l *lab) (string, error) {
	ctx, done := within(8 * time.Second)
	defer done()
	started, id := time.Now(), unique()
	_, err := l.call(ctx, "timed", "Stall", id)
	took := time.Since(started)
	if problem := expect(err, codes.DeadlineExceeded, codes.Unavailable); problem != nil {
		return "", problem
	}
	if took > 4*time.Second {
		return "", fmt.Errorf("took %v", took)
	}
	return fmt.Sprintf("%v after %v", err, took.Round(time.Millisecond)),
		eventually("the server's end of the call", time.Second, func() bool { return l.endOf(id) != nil })
}
