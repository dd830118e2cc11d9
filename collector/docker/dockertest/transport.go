package dockertest

import (
	"context"
	"fmt"
	"io"
	"net/http"
)

// RoundTrip implements http.RoundTripper: it calls the handler without a network, so that a
// Fake also works under testing/synctest.
func (f *Fake) RoundTrip(r *http.Request) (*http.Response, error) {
	reader, writer := io.Pipe()
	w := &pipeWriter{header: make(http.Header), body: writer, status: make(chan int, 1)}
	stop := context.AfterFunc(r.Context(), func() { writer.CloseWithError(r.Context().Err()) })
	go func() {
		defer stop()
		defer func() {
			if recover() != nil { // http.ErrAbortHandler
				w.status <- 0
				writer.CloseWithError(io.ErrUnexpectedEOF)
			}
		}()
		f.ServeHTTP(w, r)
		w.WriteHeader(http.StatusOK)
		writer.Close()
	}()
	select {
	case status := <-w.status:
		if status == 0 {
			return nil, io.EOF
		}
		return &http.Response{
			StatusCode: status, Status: fmt.Sprintf("%d %s", status, http.StatusText(status)), Header: w.header, Body: reader, Request: r,
			ProtoMajor: 1, ProtoMinor: 1, ContentLength: -1,
		}, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// pipeWriter is the http.ResponseWriter of RoundTrip.
type pipeWriter struct {
	header  http.Header
	body    *io.PipeWriter
	status  chan int
	started bool
}

func (w *pipeWriter) Header() http.Header { return w.header }

func (w *pipeWriter) WriteHeader(status int) {
	if !w.started {
		w.started = true
		w.header = w.header.Clone()
		w.status <- status
	}
}

func (w *pipeWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}

// Flush implements http.Flusher.
func (w *pipeWriter) Flush() { w.WriteHeader(http.StatusOK) }
