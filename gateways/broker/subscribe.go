package broker

import (
	"context"
	"errors"
	"strings"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// Filters are handed to the library with one of these in front. It stores them and answers the client, but nothing is ever published under either.
const (
	granted = "granted/"
	refused = "refused/"
)

// OnSubscribe decides which filters are granted. A shared subscription is granted QoS 0, whatever was asked for: which member of its group gets an event
// is decided when it comes, and so it can't be kept for one.
func (h *hook) OnSubscribe(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	c := clientOf(cl)
	c.codes = make([]byte, len(pk.Filters))
	fresh, freshBytes := 0, 0
	for i := range pk.Filters {
		f := &pk.Filters[i]
		share, _, ok := rewriteFilter(c.session.key.username, f.Filter)
		n, bytes, has := c.session.app.subscribed(c.session, f.Filter)
		code := f.Qos
		switch {
		case !validFilter(f.Filter), f.NoLocal && share != "": // [MQTT5-3.8.3.1]
			code = packets.ErrTopicFilterInvalid.Code
		case !ok, !c.canRead.Load():
			code = packets.ErrNotAuthorized.Code
		case share != "" && h.server.cfg.Node != "": // the members of a group may be at several nodes
			code = packets.ErrSharedSubscriptionsNotSupported.Code
		case !has && (n+fresh >= maxSubscriptions || bytes+freshBytes+len(f.Filter) > maxFilterBytes):
			code = packets.ErrQuotaExceeded.Code
		case share != "":
			code = 0
		}
		mark := refused
		if code <= 2 {
			mark, f.Qos = granted, code
			if !has {
				fresh++
				freshBytes += len(f.Filter)
			}
		}
		c.codes[i] = code
		f.Filter = mark + f.Filter
		f.NoLocal = false
	}
	return pk
}

// OnSubscribed makes the granted subscriptions, durably if the session is kept. It comes before SUBACK is written. If it fails, the client is
// disconnected without one, and asks again.
func (h *hook) OnSubscribed(cl *mqtt.Client, pk packets.Packet, reasonCodes []byte) {
	c := clientOf(cl)
	var requests []request
	for i, f := range pk.Filters {
		text, ok := strings.CutPrefix(f.Filter, granted)
		if !ok || reasonCodes[i] > 2 {
			continue
		}
		share, levels, _ := rewriteFilter(c.session.key.username, text)
		requests = append(requests, request{text: text, share: share, levels: levels, qos: f.Qos, id: f.Identifier})
	}
	if len(requests) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(h.server.ctx, h.server.cfg.CommandTimeout)
	defer cancel()
	err := h.server.feedTo(ctx, c.session)
	if err == nil {
		c.session.app.subscribe(c.session, requests...)
		err = c.session.noteSubscriptions(ctx)
	}
	h.giveUp(c, err)
}

// giveUp ends a connection whose subscriptions could not be written.
func (h *hook) giveUp(c *client, err error) {
	switch {
	case err == nil:
	case errors.Is(err, errTakenOver):
		c.leave(reasonTakenOver)
	default:
		h.server.log.Warn("MQTT client is disconnected since its subscriptions can't be written", "client_id", shown(c.session.key.clientID), "err", err)
		c.leave(reasonServerBusy)
	}
}

// noteSubscriptions makes the subscriptions durable, with the place where they begin.
func (s *session) noteSubscriptions(ctx context.Context) error {
	if !s.stored.durable.Load() {
		return nil
	}
	if err := s.saveCursor(ctx); err != nil {
		return err
	}
	return s.keep(ctx)
}

// OnUnsubscribe translates the filters for the library.
func (h *hook) OnUnsubscribe(_ *mqtt.Client, pk packets.Packet) packets.Packet {
	for i := range pk.Filters {
		pk.Filters[i].Filter = granted + pk.Filters[i].Filter
	}
	return pk
}

// OnUnsubscribed takes the subscriptions back. The library calls it at the end of a connection too, when the session may live on.
func (h *hook) OnUnsubscribed(cl *mqtt.Client, pk packets.Packet) {
	c := clientOf(cl)
	if cl.Closed() {
		return
	}
	texts := make([]string, 0, len(pk.Filters))
	for _, f := range pk.Filters {
		texts = append(texts, strings.TrimPrefix(f.Filter, granted))
	}
	c.codes = c.codes[:0]
	for _, had := range c.session.app.unsubscribe(c.session, texts) {
		code := packets.CodeSuccess.Code
		if !had {
			code = packets.CodeNoSubscriptionExisted.Code
		}
		c.codes = append(c.codes, code)
	}
	ctx, cancel := context.WithTimeout(h.server.ctx, h.server.cfg.CommandTimeout)
	defer cancel()
	h.giveUp(c, c.session.keep(ctx))
}

// ownCodes puts in place of the library's reason codes those of OnSubscribe and OnUnsubscribed. It knows the subscriptions of this connection only.
func ownCodes(c *client, pk *packets.Packet) {
	if len(pk.ReasonCodes) != len(c.codes) {
		return
	}
	for i, code := range c.codes {
		switch {
		case pk.ReasonCodes[i] == packets.ErrPacketIdentifierInUse.Code:
		case c.v5 || code <= 2:
			pk.ReasonCodes[i] = code
		default:
			pk.ReasonCodes[i] = packets.ErrUnspecifiedError.Code // the only one of 3.1.1
		}
	}
}
