package broker

import (
	"errors"
	"math"
	"sync/atomic"
	"time"

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
	queue     *queue // behind it
	protocol  *mqtt.Client
	maxExpiry time.Duration // of its session
	present   bool          // an earlier session goes on
	codes     []byte        // of the SUBACK or UNSUBACK that is to be written
	left      bool          // it said good-bye, or is thrown out, so there is no will; guarded by Server.mu

	canRead, canWrite atomic.Bool
}

// Read gives the library what the client sends. A client that breaks the rules is told so, after what it sent before was answered.
func (c *client) Read(p []byte) (int, error) {
	n, err := c.conn.Read(p)
	var v *violation
	if errors.As(err, &v) {
		if answer := c.refusal(v); answer != nil {
			_, _ = c.Write(answer)
		}
	}
	return n, err
}

// refusal is the packet that answers a violation; nil if the version of the client has none.
func (c *client) refusal(v *violation) []byte {
	switch {
	case c.session == nil && c.intake.version >= 5:
		return []byte{0x20, 3, 0, v.reason, 0}
	case c.session == nil && v.reason == badVersionThree:
		return []byte{0x20, 2, 0, v.reason}
	case !c.v5:
		return nil
	}
	if out := disconnectBecause(v.reason, v.text); c.maxPacket == 0 || len(out) <= c.maxPacket {
		return out
	}
	return disconnect(v.reason)
}

// send writes one event. False: the client can not take it, and counts as having it [MQTT5-3.1.2.11.4].
func (c *client) send(s *session, o *outgoing) bool {
	f := publishFrame{
		prefix: s.prefix, device: o.device, suffix: o.suffix, payload: o.payload,
		qos: o.qos, dup: o.again, id: o.packetID, subscriptions: o.subscriptions, eventID: o.event.id,
	}
	return c.sendFrame(&f)
}

func (c *client) sendFrame(f *publishFrame) bool {
	f.v5 = c.v5
	if f.topicLen() > math.MaxUint16 { // another user name makes another topic of a response, and a longer one
		c.metrics.dropped.WithLabelValues("topic_too_long").Inc()
		return false
	}
	if c.maxPacket > 0 && f.size() > c.maxPacket {
		c.metrics.dropped.WithLabelValues("too_large_for_client").Inc()
		return false
	}
	switch err := c.publish(f); err {
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
