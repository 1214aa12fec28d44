package webhook

import (
	"bufio"
	"context"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	v3 "lorikeet/messages/v3"
)

// deliverInTime fails if a delivery does not end although the endpoint has answered. The time-out of the Sender must be longer.
func deliverInTime(t *testing.T, w *Webhook) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- w.Deliver(t.Context(), uplink) }()
	select {
	case err := <-done:
		return err
	case <-time.After(time.Minute):
		t.Fatal("the delivery does not end")
		return nil
	}
}

func TestABodyWithoutEndHoldsUpNothing(t *testing.T) {
	t.Parallel()
	for _, code := range []int{200, 500} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(code)
			_, _ = io.WriteString(w, "a beginning")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}))
		err := deliverInTime(t, newTestWebhook(t, newTestSender(t, Config{Timeout: time.Hour}), func(h *v3.Webhook) { h.BaseURL = server.URL }))
		server.Close()
		var status *StatusError
		if code == 200 && err != nil || code == 500 && (!errors.As(err, &status) || status.Code != code || status.Detail != "a beginning") {
			t.Errorf("%d: error %v", code, err)
		}
	}
}

// bareServer gives each connection, after the head of its first request, to handle, until the test ends.
func bareServer(t *testing.T, handle func(net.Conn)) (url string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); _ = listener.Close(); all.Wait() })
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
				defer conn.Close()
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					handle(conn)
				}
			})
		}
	})
	return "http://" + listener.Addr().String()
}

func TestAnUpgradeNobodyAskedForHoldsUpNothing(t *testing.T) {
	t.Parallel()
	url := bareServer(t, func(conn net.Conn) {
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(io.Discard, conn) // until the other side leaves
	})
	err := deliverInTime(t, newTestWebhook(t, newTestSender(t, Config{}), func(h *v3.Webhook) { h.BaseURL = url }))
	if err == nil || !strings.Contains(err.Error(), "101") {
		t.Errorf("error %v", err)
	}
}

func TestAnswersThatAreNoneAreErrors(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"another protocol":          "SSH-2.0-OpenSSH_9.2\r\n",
		"nothing":                   "",
		"half a head":               "HTTP/1.1 200 OK\r\nContent-Le",
		"a head without end":        "HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("a", 1<<20),
		"interim answers in plenty": strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 10_000),
	} {
		url := bareServer(t, func(conn net.Conn) { _, _ = io.WriteString(conn, answer) })
		err := deliverInTime(t, newTestWebhook(t, newTestSender(t, Config{Timeout: time.Hour}), func(h *v3.Webhook) { h.BaseURL = url }))
		if err == nil {
			t.Errorf("%s: taken for success", name)
		}
	}
}

// freezer is a TCP proxy. What was connected before freeze passes nothing on from then on, as if the other end had lost its power.
type freezer struct {
	listener net.Listener
	to       string
	all      sync.WaitGroup
	mu       sync.Mutex
	conns    []net.Conn
	frozen   chan struct{} // closed to freeze what is connected now
}

func newFreezer(t *testing.T, to string) *freezer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &freezer{listener: listener, to: to, frozen: make(chan struct{})}
	f.all.Go(f.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		f.mu.Lock()
		for _, c := range f.conns {
			_ = c.Close()
		}
		f.mu.Unlock()
		f.all.Wait()
	})
	return f
}

func (f *freezer) accept() {
	for {
		in, err := f.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", f.to)
		if err != nil {
			_ = in.Close()
			continue
		}
		f.mu.Lock()
		f.conns = append(f.conns, in, out)
		frozen := f.frozen
		f.mu.Unlock()
		f.all.Go(func() { pass(in, out, frozen) })
		f.all.Go(func() { pass(out, in, frozen) })
	}
}

// pass copies until frozen is closed, and from then on reads and drops.
func pass(from, to net.Conn, frozen <-chan struct{}) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		select {
		case <-frozen:
			if err != nil {
				return
			}
			continue
		default:
		}
		if err != nil {
			_ = to.Close()
			return
		}
		_, _ = to.Write(buf[:n])
	}
}

func (f *freezer) freeze() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.frozen)
	f.frozen = make(chan struct{})
}

func TestAConnectionOfHTTP2WhoseOtherEndVanishedIsGivenUp(t *testing.T) {
	t.Parallel()
	protocols := make(chan string, 100)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { protocols <- r.Proto }))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	proxy := newFreezer(t, server.Listener.Addr().String())
	w := newTestWebhook(t, newTestSender(t, Config{Timeout: time.Second}), func(h *v3.Webhook) {
		h.BaseURL, h.TLSCA = "https://"+proxy.listener.Addr().String(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	})
	defer w.Close()
	for began := time.Now(); w.Deliver(t.Context(), uplink) != nil; {
		if time.Since(began) > time.Minute {
			t.Fatal("nothing is delivered at all")
		}
	}
	if got := <-protocols; got != "HTTP/2.0" {
		t.Fatalf("the request came by %s", got)
	}
	proxy.freeze()
	for began := time.Now(); ; {
		err := w.Deliver(t.Context(), uplink)
		if err == nil {
			return
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("after a minute still: %v", err)
		}
	}
}
