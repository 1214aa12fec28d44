package mqttclient

import (
	"context"
	"net"
	"net/http"
	"net/url"

	"github.com/coder/websocket"
	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// openWebSocket is for mqtt.ClientOptions. The library's own way takes no dialer, so that nothing would guard the addresses, and follows redirects.
func (c *Client) openWebSocket(server *url.URL, o mqtt.ClientOptions) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(c.ctx, connectTimeout)
	defer cancel()
	transport := &http.Transport{DialContext: c.cfg.Guard.Dialer(connectTimeout).DialContext, TLSClientConfig: o.TLSConfig}
	conn, _, err := websocket.Dial(ctx, server.String(), &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		HTTPHeader: o.HTTPHeaders, Subprotocols: []string{"mqtt"},
	})
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(-1) // the library reads packets, which have a limit of their own
	return websocket.NetConn(context.Background(), conn, websocket.MessageBinary), nil
}
