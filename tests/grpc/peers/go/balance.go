package main

import (
	"context"
	"fmt"
	"math/rand"
	"strings"
	"sync"
	"time"
)

func unique() string { return fmt.Sprintf("%x", rand.Uint64()) }

// endOf is when a server saw the call end, or nil.
func (l *lab) endOf(id string) *time.Time {
	for _, one := range l.servers {
		if at, done := one.ended.Load(id); done {
			found := at.(time.Time)
			return &found
		}
	}
	return nil
}

// several runs a function in so many goroutines; the first error of any.
func several(count int, run func(number int) error) error {
	var group sync.WaitGroup
	found := make(chan error, count)
	for number := range count {
		group.Add(1)
		go func() {
			defer group.Done()
			if err := run(number); err != nil {
				found <- err
			}
		}()
	}
	group.Wait()
	close(found)
	return <-found
}

func fair(shares map[string]int, least, most int) (string, error) {
	text := strings.ReplaceAll(strings.TrimPrefix(fmt.Sprint(shares), "map"), "server-", "")
	if len(shares) != 3 {
		return "", fmt.Errorf("shares are %s", text)
	}
	for _, count := range shares {
		if count < least || count > most {
			return "", fmt.Errorf("shares are %s, not each within %d to %d", text, least, most)
		}
	}
	return text, nil
}

func balanceCalls(l *lab) (string, error) {
	var lock sync.Mutex
	shares := map[string]int{}
	err := several(6, func(int) error {
		for range 50 {
			answer, err := l.call(context.Background(), "three", "Who", "")
			if err != nil {
				return err
			}
			lock.Lock()
			shares[answer]++
			lock.Unlock()
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return fair(shares, 60, 140)
}

func balanceStreams(l *lab) (string, error) {
	ctx, done := context.WithCancel(context.Background())
	defer done()
	before := map[int]int64{}
	for index, one := range l.servers[:3] {
		before[index] = one.active.Load()
	}
	for range 30 {
		stream, err := ask(l, ctx, "three", "Hang", unique())
		if err != nil {
			return "", err
		}
		if _, err := receive(stream); err != nil {
			return "", err
		}
	}
	shares := map[string]int{}
	for index, one := range l.servers[:3] {
		shares[one.name] = int(one.active.Load() - before[index])
	}
	return fair(shares, 5, 15)
}
