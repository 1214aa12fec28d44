package broker

import (
	"context"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"lorikeet/messages"
)

// will is a downlink request that is carried out if the client goes without a DISCONNECT.
type will struct {
	device  messages.DeviceID
	replace bool
	body    []byte
	delay   time.Duration
}

// takeWill takes the last will from the library, which would publish it without asking for rights.
func (s *Server) takeWill(c *client, cl *mqtt.Client, uid string) packets.Code {
	w := cl.Properties.Will
	if c.will != nil || w.Flag == 0 {
		return packets.CodeSuccess
	}
	device, replace, ok := parseCommand(uid, w.TopicName)
	if !ok || !c.canWrite.Load() {
		return packets.ErrNotAuthorized
	}
	app, _ := parseUsername(uid)
	c.will = &will{
		device: messages.DeviceID{ApplicationID: app, DeviceID: device}, replace: replace, body: w.Payload,
		delay: time.Duration(w.WillDelayInterval) * time.Second,
	}
	cl.Properties.Will = mqtt.Will{}
	return packets.CodeSuccess
}

// carryOutWill does it, after its delay unless the client comes back before [MQTT5-3.1.3.2.2]. s.mu is held.
func (s *Server) carryOutWill(c *client) {
	w := c.will
	if w == nil || c.left || !c.canWrite.Load() {
		return
	}
	do := func() {
		ctx, cancel := context.WithTimeout(s.ctx, s.cfg.CommandTimeout)
		defer cancel()
		s.metrics.publishes.WithLabelValues(outcome(c.downlinks.HandleDevice(ctx, w.device, w.replace, w.body))).Inc()
	}
	delay := min(w.delay, c.sessionExpiry())
	if delay == 0 {
		s.running.Go(do)
		return
	}
	key, generation := c.session.key, c.session.stored.generation.Load()
	if c.session.connection() != c { // back already
		return
	}
	s.wills[key] = time.AfterFunc(delay, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.wills, key)
		if s.closed {
			return
		}
		s.running.Go(func() {
			if !s.continues(key, generation) {
				do()
			}
		})
	})
}

// continues says whether the session has got another connection since, perhaps at another node.
func (s *Server) continues(key sessionKey, generation uint64) bool {
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.CommandTimeout)
	defer cancel()
	doc, _, exists, err := s.find(ctx, key)
	return err == nil && exists && doc.Generation != generation
}
