// Package gateways is the parent of the doors to other systems and holds what several of them share.
package gateways

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
	"lorikeet/messages/v3/pb"
)

// MaxDownlinkRequest is the size of a request that DownlinkDoor takes, in bytes.
const MaxDownlinkRequest = 1 << 20

// Downlinks changes the downlink queues of devices. Push and Replace return nil once the change is durable.
type Downlinks interface {
	PushDownlinks(ctx context.Context, device messages.DeviceID, downlinks []messages.Downlink) error
	ReplaceDownlinks(ctx context.Context, device messages.DeviceID, downlinks []messages.Downlink) error
	// FailDownlinks tells the application that downlinks it sent were refused, and why.
	FailDownlinks(ctx context.Context, device messages.DeviceID, downlinks []messages.Downlink, reason error) error
}

// DownlinkMetrics counts downlink requests; all doors share it.
type DownlinkMetrics struct{ requests *prometheus.CounterVec }

// NewDownlinkMetrics registers the metrics with reg, if that is not nil.
func NewDownlinkMetrics(reg prometheus.Registerer) *DownlinkMetrics {
	m := &DownlinkMetrics{requests: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lorikeet_pubsub_downlink_requests_total", Help: "Downlink requests that came through pub/sub integrations.",
	}, []string{"provider", "result"})}
	if reg != nil {
		reg.MustRegister(m.requests)
	}
	return m
}

// Count adds one request with a result of a small fixed set.
func (m *DownlinkMetrics) Count(provider, result string) {
	if m != nil {
		m.requests.WithLabelValues(provider, result).Inc()
	}
}

// DownlinkDoor takes the downlink requests (DownlinkQueueRequest of The Things Stack) of one pub/sub integration.
type DownlinkDoor struct {
	Application string // the only one whose devices may be reached
	Provider    string // "nats" or "mqtt"
	Downlinks   Downlinks
	Metrics     *DownlinkMetrics // may be nil
	Logger      *slog.Logger
	Input       v3.Input // how wrong input is taken
	Protobuf    bool     // requests are protobuf: DownlinkQueueRequest, or ApplicationDownlinks where the device is known otherwise
	// SenderRepeats: a request that is not Settled is not over, since its sender makes it again, so the application is not told that it failed.
	SenderRepeats bool
	foreign       atomic.Bool // a refusal for another application was logged
}

// Handle carries out one request. It returns nil once the change is durable; a request that was refused has been reported to the application
// if its device is known. It tries again for as long as ctx allows while the server is not available.
func (d *DownlinkDoor) Handle(ctx context.Context, replace bool, body []byte) error {
	body, err := d.json(body, pb.QueueRequestFromProto)
	var device messages.DeviceID
	if err == nil {
		device, err = d.device(body)
	}
	if err != nil {
		d.Metrics.Count(d.Provider, "refused")
		d.refuse(ctx, messages.DeviceID{}, nil, err)
		return err
	}
	return d.handleJSON(ctx, device, replace, body)
}

// HandleOn carries out a request that came on a topic of the subscription, which may name the device.
func (d *DownlinkDoor) HandleOn(ctx context.Context, subscription DownlinkTopic, topic string, body []byte) error {
	id, named := subscription.Device(topic)
	if !named {
		return d.Handle(ctx, subscription.Replace, body)
	}
	device := messages.DeviceID{ApplicationID: d.Application, DeviceID: id}
	if err := messages.ValidateID(id); err != nil {
		d.Metrics.Count(d.Provider, "refused")
		d.refuse(ctx, messages.DeviceID{}, nil, err)
		return err
	}
	if err := d.checkNames(device, body); err != nil {
		d.Metrics.Count(d.Provider, "refused")
		d.refuse(ctx, device, []messages.Downlink{{CorrelationIDs: v3.CorrelationIDsIn(body)}}, err)
		return err
	}
	return d.HandleDevice(ctx, device, subscription.Replace, body)
}

// checkNames refuses a body that names another device than the topic.
func (d *DownlinkDoor) checkNames(device messages.DeviceID, body []byte) error {
	if d.Protobuf || len(body) > MaxDownlinkRequest {
		return nil // names none, or is refused later for its size
	}
	in := deviceIn(body)
	if in.ApplicationID != "" && in.ApplicationID != device.ApplicationID {
		return d.otherApplication()
	}
	if in.DeviceID != "" && in.DeviceID != device.DeviceID {
		return messages.Invalid("device_mismatch", "the body names another device than the topic: leave end_device_ids out")
	}
	return nil
}

// HandleDevice is Handle for a request that is for a known device, whichever the body names.
func (d *DownlinkDoor) HandleDevice(ctx context.Context, device messages.DeviceID, replace bool, body []byte) error {
	body, err := d.json(body, pb.DownlinksFromProto)
	if err != nil {
		d.Metrics.Count(d.Provider, "refused")
		d.refuse(ctx, device, []messages.Downlink{{}}, err)
		return err
	}
	return d.handleJSON(ctx, device, replace, body)
}

// json gives a request as JSON.
func (d *DownlinkDoor) json(body []byte, convert func([]byte) ([]byte, error)) ([]byte, error) {
	if !d.Protobuf {
		return body, nil
	}
	if err := checkSize(body); err != nil {
		return nil, err
	}
	return convert(body)
}

func (d *DownlinkDoor) handleJSON(ctx context.Context, device messages.DeviceID, replace bool, body []byte) error {
	downlinks, err := d.decode(body)
	if err != nil {
		d.Metrics.Count(d.Provider, "refused")
		d.refuse(ctx, device, downlinks, err)
		return err
	}
	err = d.carryOut(ctx, replace, device, downlinks)
	if err != nil {
		d.Metrics.Count(d.Provider, "failed")
		if !d.SenderRepeats || Settled(err) {
			d.refuse(ctx, device, downlinks, err)
		}
		return err
	}
	d.Metrics.Count(d.Provider, "accepted")
	return nil
}

// Settled says whether err, of Handle or HandleDevice, is the final answer to a request. If not, the server could not carry it out, and it is to be made again.
func Settled(err error) bool {
	code := messages.CodeOf(err)
	return err == nil || code != messages.CodeUnavailable && code != messages.CodeInternal
}

// decode reads the downlinks of a request. With an error, it gives what the refusal can be told about.
func (d *DownlinkDoor) decode(body []byte) ([]messages.Downlink, error) {
	if err := checkSize(body); err != nil {
		return []messages.Downlink{{}}, err
	}
	downlinks, err := d.Input.DecodeDownlinks(body, nil)
	if err != nil {
		return []messages.Downlink{{CorrelationIDs: v3.CorrelationIDsIn(body)}}, err
	}
	return downlinks, nil
}

func checkSize(body []byte) error {
	if len(body) > MaxDownlinkRequest {
		return messages.Invalid("request_too_large", "request of %d bytes: at most %d", len(body), MaxDownlinkRequest)
	}
	return nil
}

// device finds the device that a request is for.
func (d *DownlinkDoor) device(body []byte) (messages.DeviceID, error) {
	if err := checkSize(body); err != nil {
		return messages.DeviceID{}, err
	}
	device := deviceIn(body)
	if device.ApplicationID == "" {
		device.ApplicationID = d.Application
	}
	if device.ApplicationID != d.Application {
		return messages.DeviceID{}, d.otherApplication()
	}
	if messages.ValidateID(device.DeviceID) != nil {
		return messages.DeviceID{}, messages.Invalid("no_device_id",
			`the request names no device: send {"end_device_ids":{"device_id":"dev1","application_ids":{"application_id":"%s"}},"downlinks":[...]}`, d.Application)
	}
	return device, nil
}

func (d *DownlinkDoor) otherApplication() error {
	if d.foreign.CompareAndSwap(false, true) {
		d.Logger.Warn("refused a downlink for a device of another application", "application_id", d.Application)
	}
	return messages.Errorf(messages.CodeForbidden, "application_mismatch", "the device is not of application %s, which this integration belongs to", d.Application)
}

// deviceIn finds the device that a request names, whatever else is wrong with it.
func deviceIn(body []byte) messages.DeviceID {
	body, err := v3.SnakeCase(body)
	if err != nil {
		return messages.DeviceID{}
	}
	var request struct {
		EndDeviceIDs struct {
			DeviceID       string            `json:"device_id"`
			ApplicationIDs v3.ApplicationIDs `json:"application_ids"`
		} `json:"end_device_ids"`
	}
	if json.Unmarshal(body, &request) != nil {
		return messages.DeviceID{}
	}
	return messages.DeviceID{ApplicationID: request.EndDeviceIDs.ApplicationIDs.ApplicationID, DeviceID: request.EndDeviceIDs.DeviceID}
}

func (d *DownlinkDoor) carryOut(ctx context.Context, replace bool, device messages.DeviceID, downlinks []messages.Downlink) error {
	do := d.Downlinks.PushDownlinks
	if replace {
		do = d.Downlinks.ReplaceDownlinks
	}
	for wait := 100 * time.Millisecond; ; wait *= 2 {
		err := do(ctx, device, downlinks)
		if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return messages.Errorf(messages.CodeUnavailable, "unavailable", "the request ran out of time, send it again: %w", err)
		}
		if err == nil || messages.CodeOf(err) != messages.CodeUnavailable {
			return err
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return err
		}
	}
}

// refuse tells the application. The request may have run out of time, so this has its own.
func (d *DownlinkDoor) refuse(ctx context.Context, device messages.DeviceID, downlinks []messages.Downlink, reason error) {
	d.Logger.Debug("downlink request refused", "application_id", d.Application, "device_id", device.DeviceID, "err", reason)
	if device.DeviceID == "" || len(downlinks) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := d.Downlinks.FailDownlinks(ctx, device, downlinks, reason); err != nil && !errors.Is(err, messages.ErrNotFound) {
		d.Logger.Warn("could not report a refused downlink", "application_id", d.Application, "device_id", device.DeviceID, "err", err)
	}
}

// DownlinkReply is the body of an answer to a request: {} or the error of The Things Stack.
func DownlinkReply(err error) []byte {
	if err == nil {
		return []byte("{}")
	}
	code, name, message := grpcCode[messages.CodeOf(err)], "internal", "internal error; see the log of the server"
	var e *messages.Error
	if errors.As(err, &e) {
		name, message = e.Name, e.Error()
	}
	out, jsonErr := json.Marshal(map[string]any{
		"code": code, "message": "error:lorikeet:" + name + " (" + message + ")",
		"details": []any{map[string]any{
			"@type": "type.googleapis.com/ttn.lorawan.v3.ErrorDetails", "namespace": "lorikeet", "name": name, "message_format": message, "code": code,
		}},
	})
	if jsonErr != nil {
		return []byte(`{"code":13}`)
	}
	return out
}

var grpcCode = map[messages.Code]int{
	messages.CodeInternal: 13, messages.CodeInvalid: 3, messages.CodeNotFound: 5, messages.CodeConflict: 10, messages.CodePrecondition: 9,
	messages.CodeUnauthenticated: 16, messages.CodeForbidden: 7, messages.CodeExhausted: 8, messages.CodeUnavailable: 14,
}
