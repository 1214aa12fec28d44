package broker

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// webSocketPath is where MQTT over WebSocket is.
const webSocketPath = "/mqtt"

// subprotocols are what a client may offer: the second is what those of MQTT 3.1 call it.
var subprotocols = []string{"mqtt", "mqttv3.1"}

type socketKey struct{}

// serveWebSocket takes WebSocket connections on /mqtt, and answers everything else with 404. [MQTT-6.0.0]
func (s *Server) serveWebSocket(d door) {
	mux := http.NewServeMux()
	mux.HandleFunc(webSocketPath, s.upgrade)
	server := &http.Server{
		Handler: mux, ReadTimeout: s.cfg.ConnectTimeout, WriteTimeout: s.cfg.ConnectTimeout, MaxHeaderBytes: 16 << 10,
		ErrorLog:    slog.NewLogLogger(quiet{s.log.Handler()}, slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, socketKey{}, c) },
	}
	server.SetKeepAlivesEnabled(false)
	s.running.Go(func() { _ = server.Serve(d.socket) })
}

// upgrade makes a request an MQTT connection. Browsers tell where their page came from: it must be this host, or one that is allowed.
func (s *Server) upgrade(w http.ResponseWriter, r *http.Request) {
	socket, _ := r.Context().Value(socketKey{}).(net.Conn)
	below := admittedBelow(socket)
	if below == nil {
		http.Error(w, "no socket", http.StatusInternalServerError)
		return
	}
	if !slices.ContainsFunc(subprotocols, func(name string) bool { return offers(r, name) }) {
		s.metrics.refused.WithLabelValues("websocket").Inc()
		http.Error(w, `the WebSocket must offer the subprotocol "mqtt"`, http.StatusBadRequest)
		return
	}
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols: subprotocols, OriginPatterns: s.cfg.WebSocketOrigins, CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil { // it has answered
		s.metrics.refused.WithLabelValues("websocket").Inc()
		s.log.Debug("MQTT WebSocket refused", "remote", below.guest.host, "err", err)
		return
	}
	ws.SetReadLimit(-1) // messages are read as a stream; the limits of packets hold
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed { // no one waits for it any more
		_ = ws.CloseNow()
		return
	}
	s.running.Go(func() { s.serve(&webSocketConn{ws: ws, socket: socket}, below.guest) })
}

// offers says whether a request offers a subprotocol [RFC 6455 §4.1].
func offers(r *http.Request, protocol string) bool {
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for name := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(name), protocol) {
				return true
			}
		}
	}
	return false
}

// webSocketConn is the stream of the binary messages of a WebSocket [MQTT-6.0.0-2]. Deadlines are those of the socket below, so that one that passes
// ends the read or write and not the connection.
type webSocketConn struct {
	ws      *websocket.Conn
	socket  net.Conn
	message io.Reader // being read
}

var errText = errors.New("a text message: MQTT is sent in binary messages")

func (c *webSocketConn) Read(p []byte) (int, error) {
	for {
		if c.message == nil {
			kind, r, err := c.ws.Reader(context.Background())
			switch {
			case websocket.CloseStatus(err) != -1:
				return 0, io.EOF
			case err != nil:
				return 0, err
			case kind != websocket.MessageBinary: // [MQTT-6.0.0-1]
				_ = c.socket.SetDeadline(time.Now().Add(lingering))
				_ = c.ws.Close(websocket.StatusUnsupportedData, "MQTT needs binary messages")
				return 0, errText
			}
			c.message = r
		}
		n, err := c.message.Read(p)
		if errors.Is(err, io.EOF) {
			c.message, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (c *webSocketConn) Write(p []byte) (int, error) {
	if err := c.ws.Write(context.Background(), websocket.MessageBinary, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// CloseWrite says good-bye in the way of WebSocket. The peer's answer is waited for as long as the client has to take notice.
func (c *webSocketConn) CloseWrite() error {
	_ = c.socket.SetDeadline(time.Now().Add(lingering))
	return c.ws.Close(websocket.StatusNormalClosure, "")
}

func (c *webSocketConn) Close() error { return c.ws.CloseNow() }

func (c *webSocketConn) LocalAddr() net.Addr                { return c.socket.LocalAddr() }
func (c *webSocketConn) RemoteAddr() net.Addr               { return c.socket.RemoteAddr() }
func (c *webSocketConn) SetDeadline(t time.Time) error      { return c.socket.SetDeadline(t) }
func (c *webSocketConn) SetReadDeadline(t time.Time) error  { return c.socket.SetReadDeadline(t) }
func (c *webSocketConn) SetWriteDeadline(t time.Time) error { return c.socket.SetWriteDeadline(t) }
