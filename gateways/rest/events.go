package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"time"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// EventLog is where the events of applications are read from: what integrations deliver, in order.
type EventLog interface {
	// ReadLog gives entries with a Seq above after, in order, at most limit.
	ReadLog(ctx context.Context, app string, after uint64, limit int) ([]messages.LogEntry, error)
	// LogRange gives the Seq of the oldest and the newest entry; first is more than last for an empty log.
	LogRange(ctx context.Context, app string) (first, last uint64, err error)
	// WatchLog signals that there is more to read, until cancel is called.
	WatchLog(app string) (changed <-chan struct{}, cancel func())
}

// emptyLog has nothing to read.
type emptyLog struct{}

func (emptyLog) ReadLog(context.Context, string, uint64, int) ([]messages.LogEntry, error) {
	return nil, nil
}
func (emptyLog) LogRange(context.Context, string) (first, last uint64, err error) { return 1, 0, nil }
func (emptyLog) WatchLog(string) (<-chan struct{}, func())                        { return nil, func() {} }

// eventBody is an event of the live view, as The Things Stack writes it.
type eventBody struct {
	Name           string           `json:"name"`
	Time           time.Time        `json:"time"`
	Identifiers    []eventEntityIDs `json:"identifiers"`
	Data           json.RawMessage  `json:"data,omitempty"`
	CorrelationIDs []string         `json:"correlation_ids,omitempty"`
	Origin         string           `json:"origin,omitempty"`
	Visibility     *rightsBody      `json:"visibility,omitempty"`
	UniqueID       string           `json:"unique_id"`
}

// eventEntityIDs has one member set.
type eventEntityIDs struct {
	ApplicationIDs *v3.ApplicationIDs `json:"application_ids,omitempty"`
	DeviceIDs      *v3.EndDeviceIDs   `json:"device_ids,omitempty"`
	GatewayIDs     json.RawMessage    `json:"gateway_ids,omitempty"`
	UserIDs        json.RawMessage    `json:"user_ids,omitempty"`
	Organization   json.RawMessage    `json:"organization_ids,omitempty"`
	ClientIDs      json.RawMessage    `json:"client_ids,omitempty"`
}

// eventNames are those of The Things Stack for what is in the log.
var eventNames = map[messages.EventType]string{
	messages.EventUplink:           "as.up.data.forward",
	messages.EventUplinkNormalized: "as.up.normalized.forward",
	messages.EventJoin:             "as.up.join.forward",
	messages.EventDownQueued:       "as.down.data.forward",
	messages.EventDownSent:         "as.down.data.sent.forward",
	messages.EventDownAck:          "as.down.data.ack.forward",
	messages.EventDownNack:         "as.down.data.nack.forward",
	messages.EventDownFailed:       "as.down.data.failed.forward",
	messages.EventDownInvalidated:  "as.down.data.queue.invalidated.forward",
	messages.EventLocationSolved:   "as.up.location.forward",
	messages.EventServiceData:      "as.up.service.forward",
}

const (
	typeUp    = "type.googleapis.com/ttn.lorawan.v3.ApplicationUp"
	typeError = "type.googleapis.com/ttn.lorawan.v3.ErrorDetails"
)

// eventsOf gives the events of a log entry: what became of its payload, then itself.
func (s *Server) eventsOf(e messages.LogEntry) []eventBody {
	var up struct {
		EndDeviceIDs   v3.EndDeviceIDs `json:"end_device_ids"`
		CorrelationIDs []string        `json:"correlation_ids"`
		UplinkMessage  *struct {
			DecodeError            string   `json:"decode_error"`
			DecodedPayloadWarnings []string `json:"decoded_payload_warnings"`
		} `json:"uplink_message"`
	}
	_ = json.Unmarshal(e.JSON, &up) // ours; what can't be read is shown as it is
	up.EndDeviceIDs.DeviceID, up.EndDeviceIDs.ApplicationIDs.ApplicationID = e.Device.DeviceID, e.Device.ApplicationID
	event := eventBody{
		Name: eventNames[e.Type], Time: e.Time.UTC(), Identifiers: []eventEntityIDs{{DeviceIDs: &up.EndDeviceIDs}}, Data: typed(typeUp, e.JSON),
		CorrelationIDs: up.CorrelationIDs, Origin: s.cfg.Origin, Visibility: &rightsBody{[]messages.Right{messages.RightApplicationTrafficRead}}, UniqueID: e.ID,
	}
	out := []eventBody{event}
	if m := up.UplinkMessage; m != nil && m.DecodeError != "" {
		failed := event
		failed.Name, failed.UniqueID = "as.up.data.decode.fail", e.ID+":decode"
		details, _ := json.Marshal(v3.ErrorDetails{Namespace: "pkg/" + namespace, Name: "decode_uplink", MessageFormat: m.DecodeError, Code: 3})
		failed.Data = typed(typeError, details)
		out = slices.Insert(out, 0, failed)
	} else if m != nil && len(m.DecodedPayloadWarnings) > 0 {
		warned := event
		warned.Name, warned.UniqueID = "as.up.data.decode.warning", e.ID+":decode"
		out = slices.Insert(out, 0, warned)
	}
	return out
}

// typed marks an object with the name of its type.
func typed(name string, object []byte) json.RawMessage {
	rest := bytes.TrimLeft(bytes.TrimSpace(object), "{")
	out := append([]byte(`{"@type":"`+name+`"`), ',')
	if bytes.HasPrefix(bytes.TrimSpace(rest), []byte("}")) {
		out = out[:len(out)-1]
	}
	return append(out, rest...)
}

// changeNames are the events of what people configure: created, changed, deleted.
var changeNames = map[messages.Kind][3]string{
	messages.KindApplication: {"application.create", "application.update", "application.delete"},
	messages.KindDevice:      {"as.end_device.create", "as.end_device.update", "as.end_device.delete"},
	messages.KindWebhook:     {"as.webhook.set", "as.webhook.set", "as.webhook.delete"},
	messages.KindPubSub:      {"as.pubsub.set", "as.pubsub.set", "as.pubsub.delete"},
}

// changeRights are needed to see them.
var changeRights = map[messages.Kind]messages.Right{
	messages.KindApplication: messages.RightApplicationInfo,
	messages.KindDevice:      messages.RightApplicationDevicesRead,
	messages.KindWebhook:     messages.RightApplicationSettingsBasic,
	messages.KindPubSub:      messages.RightApplicationSettingsBasic,
}

// notice is a change of the registry, at the time this node heard of it.
type notice struct {
	messages.Change
	at time.Time
}

// application is the one that a change is about; "" if a change is not shown.
func (n notice) application() string {
	if changeNames[n.Kind][0] == "" {
		return ""
	}
	app, _, _ := strings.Cut(n.ID, ".")
	return app
}

// eventOf asks the registry what a change was. A device that was created and changed since shows as changed.
func (s *Server) eventOf(ctx context.Context, n notice) eventBody {
	app, sub, _ := strings.Cut(n.ID, ".")
	names, ids := changeNames[n.Kind], v3.ApplicationIDs{ApplicationID: app}
	out := eventBody{
		Name: names[1], Time: n.at.UTC(), Identifiers: []eventEntityIDs{{ApplicationIDs: &ids}}, Origin: s.cfg.Origin,
		Visibility: &rightsBody{[]messages.Right{changeRights[n.Kind]}}, UniqueID: newRequestID(""),
	}
	var created, updated *time.Time
	switch n.Kind {
	case messages.KindDevice:
		device := v3.EndDeviceIDs{DeviceID: sub, ApplicationIDs: ids}
		if dev, err := s.cfg.Registry.Device(ctx, messages.DeviceID{ApplicationID: app, DeviceID: sub}); err == nil {
			device, created, updated = dev.IDs, dev.CreatedAt, dev.UpdatedAt
		}
		out.Identifiers = []eventEntityIDs{{DeviceIDs: &device}}
	case messages.KindApplication:
		if a, err := s.cfg.Registry.Application(ctx, app); err == nil {
			created, updated = a.CreatedAt, a.UpdatedAt
		}
	case messages.KindWebhook:
		out.Data = typed("type.googleapis.com/ttn.lorawan.v3.ApplicationWebhookIdentifiers", asJSON(v3.WebhookIDs{ApplicationIDs: ids, WebhookID: sub}))
	case messages.KindPubSub:
		out.Data = typed(typePubSub, asJSON(v3.PubSubIDs{ApplicationIDs: ids, PubSubID: sub}))
	}
	switch {
	case n.Deleted:
		out.Name = names[2]
	case created != nil && updated != nil && created.Equal(*updated):
		out.Name = names[0]
	}
	return out
}

// loginEvent says that an MQTT client of an application could not log in.
func (s *Server) loginEvent(app string, reason error) eventBody {
	return eventBody{
		Name: "as.mqtt.connect.fail", Time: time.Now().UTC(), Identifiers: []eventEntityIDs{{ApplicationIDs: &v3.ApplicationIDs{ApplicationID: app}}},
		Data: typed(typeError, asJSON(v3.DetailsOf(namespace, reason))), Origin: s.cfg.Origin,
		Visibility: &rightsBody{[]messages.Right{messages.RightApplicationTrafficRead}}, UniqueID: newRequestID(""),
	}
}

// asJSON encodes what can always be encoded.
func asJSON(v any) []byte {
	raw, _ := json.Marshal(v)
	return raw
}

// nameFilter says which events are wanted: by name, or by a regular expression between slashes.
type nameFilter struct {
	names    map[string]bool
	patterns []*regexp.Regexp
}

const maxNames = 100

func newNameFilter(names []string) (f nameFilter, err error) {
	if len(names) > maxNames {
		return f, messages.Invalid("invalid_names", "%d names: use at most %d", len(names), maxNames)
	}
	f.names = map[string]bool{}
	for _, name := range names {
		rest, begins := strings.CutPrefix(name, "/")
		pattern, ends := strings.CutSuffix(rest, "/")
		if !begins || !ends {
			f.names[name] = true
			continue
		}
		re, err := regexp.Compile(pattern)
		if err != nil || len(pattern) > 256 {
			return f, messages.Invalid("invalid_names", "%q is not a regular expression of at most 256 characters between slashes, such as /^as\\.up\\..*/", shorten(name))
		}
		f.patterns = append(f.patterns, re)
	}
	return f, nil
}

func (f nameFilter) wants(name string) bool {
	if len(f.names) == 0 && len(f.patterns) == 0 || f.names[name] {
		return true
	}
	return slices.ContainsFunc(f.patterns, func(re *regexp.Regexp) bool { return re.MatchString(name) })
}
