package main

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
)

// web serves HTTP/2, by prior knowledge or ALPN, or HTTP/1.1 only:
//
//	/sum      the length and hash of the body, once it is there; trailers of the request in x-trailer-got
//	/bytes/N  N bytes
//	/trailers a body, and trailers after it
//	else      a page
func web(given options) error {
	var protocols http.Protocols
	protocols.SetHTTP1(given.http1)
	protocols.SetHTTP2(!given.http1)
	protocols.SetUnencryptedHTTP2(!given.http1)
	routes := http.NewServeMux()
	routes.HandleFunc("/sum", sumOfBody)
	routes.HandleFunc("/bytes/{count}", someBytes)
	routes.HandleFunc("/trailers", trailers)
	routes.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("x-protocol", r.Proto)
		_, _ = io.WriteString(w, "<html><body>a page that is longer than nothing</body></html>\n")
	})
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", given.port))
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	server := &http.Server{Handler: routes, Protocols: &protocols}
	if given.cert == "" {
		return server.Serve(listener)
	}
	server.TLSConfig = &tls.Config{}
	return server.ServeTLS(listener, given.cert, given.key)
}

func sumOfBody(w http.ResponseWriter, r *http.Request) {
	hash := sha256.New()
	count, err := io.Copy(hash, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("x-protocol", r.Proto)
	w.Header().Set("x-trailer-got", r.Trailer.Get("x-sent"))
	_, _ = fmt.Fprintf(w, "%d %x\n", count, hash.Sum(nil))
}

func someBytes(w http.ResponseWriter, r *http.Request) {
	count, err := strconv.Atoi(r.PathValue("count"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	block := make([]byte, 16384)
	for ; count > 0; count -= len(block) {
		if _, err := w.Write(block[:min(count, len(block))]); err != nil {
			return
		}
	}
}

func trailers(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Trailer", "x-checksum, x-second")
	w.Header().Set("x-protocol", r.Proto)
	_, _ = io.WriteString(w, "before the trailers\n")
	_ = http.NewResponseController(w).Flush() // Without a content-length, which HTTP/1.1 cannot have beside trailers.
	w.Header().Set("x-checksum", "4711")
	w.Header().Set("x-second", "too")
}
