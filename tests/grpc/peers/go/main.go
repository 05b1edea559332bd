// Own gRPC peers of the conformance runner: servers that say what they saw, and a client that checks it.
//
// Messages are plain bytes, so that there is no generated code. `serve` is one gRPC server, `web` an HTTP server for
// h2spec, curl, nghttp and h2load, `check` runs the cases: it holds the servers itself, and so compares both ends by one
// clock. Built and called by `run.py`; not for anything but tests.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// options are the flags of all three commands.
type options struct {
	target, ca, cert, key, name, only string
	port, maxStreams, pid             int
	ports                             []int
	quick, http1                      bool
}

func parse(arguments []string) options {
	var found options
	var ports string
	flags := flag.NewFlagSet("peer", flag.ExitOnError)
	flags.StringVar(&found.target, "target", "", "address of the router that `check` calls")
	flags.StringVar(&found.ca, "ca", "", "authority of the router; empty: plain text")
	flags.StringVar(&found.cert, "cert", "", "certificate of the servers; empty: plain text")
	flags.StringVar(&found.key, "key", "", "its key")
	flags.StringVar(&found.name, "name", "peer", "what Who answers")
	flags.StringVar(&found.only, "only", "", "only the case of this name")
	flags.IntVar(&found.port, "port", 0, "port of `serve` and `web`; 0: a free one")
	flags.IntVar(&found.maxStreams, "max-streams", 0, "SETTINGS_MAX_CONCURRENT_STREAMS; 0: unlimited")
	flags.IntVar(&found.pid, "pid", 0, "of the router, for the cases that end it; 0: all the others")
	flags.StringVar(&ports, "ports", "", "ports of the servers of `check`, in the order of `services`")
	flags.BoolVar(&found.quick, "quick", false, "fewer calls")
	flags.BoolVar(&found.http1, "http1", false, "`web` speaks HTTP/1.1 only")
	_ = flags.Parse(arguments)
	for _, word := range strings.FieldsFunc(ports, func(r rune) bool { return r == ',' }) {
		port, err := strconv.Atoi(word)
		must(err)
		found.ports = append(found.ports, port)
	}
	return found
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

func main() {
	if len(os.Args) < 2 {
		must(fmt.Errorf("usage: peer serve|web|check FLAGS"))
	}
	given := parse(os.Args[2:])
	switch os.Args[1] {
	case "serve":
		server, err := start(given, given.port, given.name, given.maxStreams)
		must(err)
		fmt.Println(server.port)
		untilTerminated()
		server.grpc.GracefulStop()
	case "web":
		must(web(given))
	case "check":
		os.Exit(check(given))
	default:
		must(fmt.Errorf("no command %q", os.Args[1]))
	}
}

func untilTerminated() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	<-signals
}

// outcome is one line of what `check` prints.
type outcome struct {
	Case   string `json:"case"`
	Held   bool   `json:"held"`
	Detail string `json:"detail"`
	Ms     int64  `json:"ms"`
}

// check runs every case, each for 60 s at most, and prints one line for each.
func check(given options) int {
	lab, err := open(given)
	must(err)
	defer lab.close()
	failed := 0
	wanted := cases
	if given.pid != 0 {
		wanted = lastCases
	}
	for _, one := range wanted {
		if given.only != "" && one.name != given.only {
			continue
		}
		started := time.Now()
		detail, err := attempt(lab, one.run)
		if err != nil {
			failed++
			detail = err.Error()
		}
		line, _ := json.Marshal(outcome{one.name, err == nil, detail, time.Since(started).Milliseconds()})
		fmt.Println(string(line))
	}
	if failed > 0 {
		return 1
	}
	return 0
}

func attempt(lab *lab, run func(*lab) (string, error)) (string, error) {
	type result struct {
		detail string
		err    error
	}
	done := make(chan result, 1)
	go func() {
		detail, err := run(lab)
		done <- result{detail, err}
	}()
	select {
	case found := <-done:
		return found.detail, found.err
	case <-time.After(60 * time.Second):
		return "", fmt.Errorf("not done after 60 s")
	}
}
