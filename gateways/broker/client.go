package broker

import (
	"sync/atomic"

	mqtt "github.com/mochi-mqtt/server/v2"

	"lorikeet/gateways"
)

// client is one connection and, after its login, who is at the other end.
type client struct {
	*conn
	guest   *guest
	metrics *metrics

	// Set at the login, by the goroutine that reads; read by others only through a session.
	session   *session
	v5        bool
	maxPacket int // that the client takes, 0: any
	window    int // messages of QoS 1 and 2 that may be on the way
	will      *will
	downlinks *gateways.DownlinkDoor
	protocol  *mqtt.Client
	present   bool // an earlier session goes on
	left      bool // it said good-bye, or is thrown out, so there is no will; guarded by Server.mu

	canRead, canWrite atomic.Bool
}

// send writes one event. False: the client can not take it, and counts as having it [MQTT5-3.1.2.11.4].
func (c *client) send(s *session, d *delivery, again bool) bool {
	f := publishFrame{
		prefix: s.prefix, device: d.event.device, suffix: d.event.suffix, payload: d.event.payload,
		qos: d.qos, dup: again, v5: c.v5, id: d.id, subscriptions: d.subscriptions,
	}
	if c.maxPacket > 0 && f.size() > c.maxPacket {
		c.metrics.dropped.WithLabelValues("too_large_for_client").Inc()
		return false
	}
	switch err := c.publish(&f); err {
	case nil:
		c.metrics.events.Inc()
	case errSlow:
		c.metrics.dropped.WithLabelValues("slow_client").Inc()
	}
	return true
}

// leave ends the connection with a reason that a client of MQTT 5 is told.
func (c *client) leave(reason byte) {
	if c.v5 {
		_, _ = c.Write(disconnect(reason))
	}
	_ = c.Close()
}
