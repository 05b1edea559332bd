// A Go server: logs every request that it sees, reads its body, answers. Usage: server LOG
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
)

func main() {
	log, err := os.OpenFile(os.Args[1], os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		panic(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	answer := func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(log, "%s %s\n", r.Method, r.RequestURI)
		if _, err := io.Copy(io.Discard, r.Body); err != nil && !strings.Contains(err.Error(), "EOF") {
			fmt.Fprintf(log, "BAD %v\n", err)
		}
		w.Header().Set("x-seen", r.RequestURI)
		if strings.Contains(r.RequestURI, "busy") {
			w.WriteHeader(503)
		}
		fmt.Fprintln(w, "ok")
	}
	server := http.Server{Handler: http.HandlerFunc(answer), DisableGeneralOptionsHandler: true}
	panic(server.Serve(listener))
}
