package main

import (
	"context"
	"errors"
	"fmt"
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
	told := []string{}
	for _, service := range []string{"one", "timed"} {
		for _, given := range []time.Duration{400 * time.Millisecond, 700 * time.Millisecond} {
			ctx, done := within(given)
			found, err := seen(l, ctx, service, "Deadline", "")
			done()
			if err != nil || found > given {
				return "", fmt.Errorf("%s: %v of %v at the server, %v", service, found, given, err)
			}
			told = append(told, fmt.Sprintf("%v of %v", found.Round(time.Millisecond), given))
		}
	}
	return strings.Join(told, ", "), nil
}

// ownDeadline: the service `timed` has a requestAttemptTimeoutMs of 1000 and a totalTimeoutMs of 3000.
func ownDeadline(l *lab) (string, error) {
	found, err := seen(l, context.Background(), "timed", "Deadline", "")
	if err != nil || found > time.Second+slack {
		return "", fmt.Errorf("no deadline of the client: %v at the server, %v", found, err)
	}
	ctx, done := within(20 * time.Second)
	defer done()
	longer, err := seen(l, ctx, "timed", "Deadline", "")
	if err != nil || longer > time.Second+slack {
		return "", fmt.Errorf("20 s of the client: %v at the server, %v", longer, err)
	}
	return fmt.Sprintf("%v and %v of 1 s", found.Round(time.Millisecond), longer.Round(time.Millisecond)), nil
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
