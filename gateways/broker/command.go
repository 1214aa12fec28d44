package broker

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"lorikeet/gateways"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// OnPublish carries out a downlink request, before it is acknowledged. It holds up no one but this client. Whatever comes of it is told: by the
// acknowledgement to a client of MQTT 5, on the response topic if there is one, and as down/failed if it was refused.
func (h *hook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	c := clientOf(cl)
	if pk.FixedHeader.Qos == 2 && c.session.seen(pk.PacketID) { // repeated after a reconnect [MQTT-4.3.3-10]
		return pk, packets.CodeSuccessIgnore
	}
	response, ok := parseResponseTopic(c.session.key.username, pk.Properties.ResponseTopic)
	err := error(errResponseTopic)
	if ok && (response == "" || c.canRead.Load()) {
		err = h.command(c, pk)
	} else {
		response = ""
		c.refuse(pk, err)
	}
	h.server.metrics.publishes.WithLabelValues(outcome(err)).Inc()
	if !gateways.Settled(err) { // no acknowledgement: the client keeps the request and sends it again
		c.leave(reasonServerBusy)
		return pk, packets.ErrRejectPacket
	}
	if response != "" {
		c.session.app.respond(response, c.queue.reply(err), pk.Properties.CorrelationData)
	}
	if err != nil && c.v5 && pk.FixedHeader.Qos > 0 {
		h.acknowledge(cl, pk, err)
		return pk, packets.ErrRejectPacket
	}
	if pk.FixedHeader.Qos == 2 {
		c.session.remember(pk.PacketID)
	}
	return pk, packets.CodeSuccessIgnore // acknowledged, and forwarded to no one
}

func (h *hook) command(c *client, pk packets.Packet) error {
	device, replace, ok := parseCommand(c.session.key.username, pk.TopicName)
	switch {
	case !ok:
		c.refuse(pk, errTopic)
		return errTopic
	case !c.canWrite.Load():
		c.refuse(pk, errNoRight)
		return errNoRight
	}
	limit, expiry := h.server.cfg.CommandTimeout, time.Duration(pk.Properties.MessageExpiryInterval)*time.Second
	if expiry > 0 {
		limit = min(limit, expiry)
	}
	ctx, cancel := context.WithTimeout(h.server.ctx, limit)
	defer cancel()
	began := time.Now()
	id := messages.DeviceID{ApplicationID: c.downlinks.Application, DeviceID: device}
	err := c.downlinks.HandleDevice(ctx, id, replace, pk.Payload)
	if gateways.Settled(err) || expiry == 0 || time.Since(began) < expiry {
		return err
	}
	reporting, done := context.WithTimeout(h.server.ctx, h.server.cfg.CommandTimeout)
	defer done()
	_ = c.downlinks.Downlinks.FailDownlinks(reporting, id, []messages.Downlink{{CorrelationIDs: v3.CorrelationIDsIn(pk.Payload)}}, errExpired)
	return errExpired
}

var (
	errTopic = messages.Errorf(messages.CodeForbidden, "topic_not_allowed",
		"publish to v3/{application}/devices/{device_id}/down/push or .../down/replace, with your user name for {application}")
	errNoRight       = messages.Errorf(messages.CodeForbidden, "no_right", "the API key needs %s", messages.RightApplicationTrafficDownWrite)
	errExpired       = messages.Errorf(messages.CodePrecondition, "message_expired", "the message expired before it could be carried out")
	errResponseTopic = messages.Errorf(messages.CodeForbidden, "response_topic_not_allowed",
		"use a response topic below v3/{application}/, with your user name for {application}, that is not one of events or commands; the API key needs %s", messages.RightApplicationTrafficRead)
)

// outcome names what came of a publish, for the metrics.
func outcome(err error) string {
	switch {
	case err == nil:
		return "accepted"
	case errors.Is(err, errTopic):
		return "topic_not_allowed"
	}
	switch messages.CodeOf(err) {
	case messages.CodeUnavailable:
		return "unavailable"
	case messages.CodeForbidden:
		return "forbidden"
	case messages.CodeInternal:
		return "failed"
	}
	return "refused"
}

// acknowledge tells a client of MQTT 5 why its message was refused.
func (h *hook) acknowledge(cl *mqtt.Client, pk packets.Packet, err error) {
	code := packets.ErrImplementationSpecificError
	switch messages.CodeOf(err) {
	case messages.CodeInvalid:
		code = packets.ErrPayloadFormatInvalid
	case messages.CodeForbidden, messages.CodeUnauthenticated:
		code = packets.ErrNotAuthorized
	case messages.CodeExhausted:
		code = packets.ErrQuotaExceeded
	}
	ack := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: pk.PacketID, ReasonCode: code.Code}
	if pk.FixedHeader.Qos == 2 {
		ack.FixedHeader.Type = packets.Pubrec
	}
	var refusal *messages.Error
	if errors.As(err, &refusal) {
		ack.Properties.ReasonString = refusal.Message
	}
	_ = cl.WritePacket(ack)
}

// reply is the payload of a response: {"code":0} with the ids of the items, as REST gives them, or the error of The Things Stack.
func (q *queue) reply(err error) []byte {
	if err != nil {
		return gateways.DownlinkReply(err)
	}
	type item struct {
		ID string `json:"id"`
	}
	answer := struct {
		Code      int    `json:"code"`
		Downlinks []item `json:"downlinks,omitempty"`
	}{}
	for i := range q.accepted {
		answer.Downlinks = append(answer.Downlinks, item{q.accepted[i].ID})
	}
	b, _ := json.Marshal(answer) // of numbers and texts
	return b
}

// refuse tells the author of a publish that is no downlink request of its own why nothing comes of it. There may be no device whose event it could be,
// so it is shown to this client only, if it is subscribed to that.
func (c *client) refuse(pk packets.Packet, reason error) {
	device := deviceInTopic(c.session.key.username, pk.TopicName)
	e := failure(messages.DeviceID{ApplicationID: c.session.app.id, DeviceID: device}, messages.Downlink{CorrelationIDs: v3.CorrelationIDsIn(pk.Payload)}, reason)
	topic := "down/failed"
	if device != "" {
		topic = "devices/" + device + "/down/failed"
	}
	c.session.app.show(topic, c.session, publishFrame{payload: e})
}

// queue is what the downlink requests of one client go to. They come one after the other.
type queue struct {
	downlinks Downlinks
	app       *application
	accepted  []messages.Downlink // of the latest request
}

func (q *queue) PushDownlinks(ctx context.Context, device messages.DeviceID, items []messages.Downlink) (err error) {
	q.accepted, err = q.downlinks.QueueDownlinks(ctx, device, items, false)
	return err
}

func (q *queue) ReplaceDownlinks(ctx context.Context, device messages.DeviceID, items []messages.Downlink) (err error) {
	q.accepted, err = q.downlinks.QueueDownlinks(ctx, device, items, true)
	return err
}

// FailDownlinks tells the application of refused downlinks, and never fails. What can't become an event, since the device does not exist, is shown to
// those who are subscribed at this server now.
func (q *queue) FailDownlinks(ctx context.Context, device messages.DeviceID, items []messages.Downlink, reason error) error {
	if q.downlinks.FailDownlinks(ctx, device, items, reason) == nil {
		return nil
	}
	for _, item := range items {
		q.app.show("devices/"+device.DeviceID+suffixes[messages.EventDownFailed], nil, publishFrame{payload: failure(device, item, reason)})
	}
	return nil
}

// failure is the JSON of a downlink_failed that is not in the log.
func failure(device messages.DeviceID, item messages.Downlink, reason error) []byte {
	now := time.Now().UTC()
	up := v3.ApplicationUp{
		EndDeviceIDs:   v3.EndDeviceIDs{DeviceID: device.DeviceID, ApplicationIDs: v3.ApplicationIDs{ApplicationID: device.ApplicationID}},
		CorrelationIDs: item.CorrelationIDs, ReceivedAt: &now,
		DownlinkFailed: &v3.DownlinkFailed{Downlink: v3.FromDownlink(item), Error: v3.DetailsOf("applicationserver", reason)},
	}
	b, err := json.Marshal(&up)
	if err != nil {
		return []byte("{}")
	}
	return b
}

// respond publishes the result of a request.
func (a *application) respond(topic string, payload, correlation []byte) {
	a.show(topic, nil, publishFrame{payload: payload, correlation: correlation})
}

// show publishes a message with QoS 0 to the subscribers at this server, or to one session if it is among them. The topic is what comes after v3/{uid}/.
func (a *application) show(topic string, only *session, f publishFrame) {
	levels := strings.Split(topic, "/")
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events++
	clear(a.targets)
	a.targets = a.targets[:0]
	a.match(a.byDevice[deviceOf(levels)], levels)
	a.match(a.wide, levels)
	for _, t := range a.targets {
		if only == nil || only == t.session {
			f.device, f.subscriptions = topic, t.ids
			t.session.show(f)
		}
	}
}

func (s *session) show(f publishFrame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live {
		f.prefix = "v3/" + s.key.username + "/"
		s.client.sendFrame(&f)
	}
}
