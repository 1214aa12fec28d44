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
	// SenderRepeats: a request that is not Settled is not over, since its sender makes it again, so the application is not told that it failed.
	SenderRepeats bool
	foreign       atomic.Bool // a refusal for another application was logged
}

// Handle carries out one request. It returns nil once the change is durable; a request that was refused has been reported to the application
// if its device is known. It tries again for as long as ctx allows while the server is not available.
func (d *DownlinkDoor) Handle(ctx context.Context, replace bool, body []byte) error {
	device, err := d.device(body)
	if err != nil {
		d.Metrics.Count(d.Provider, "refused")
		d.refuse(ctx, messages.DeviceID{}, nil, err)
		return err
	}
	return d.HandleDevice(ctx, device, replace, body)
}

// HandleDevice is Handle for a request that is for a known device, whichever the body names.
func (d *DownlinkDoor) HandleDevice(ctx context.Context, device messages.DeviceID, replace bool, body []byte) error {
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
		if d.foreign.CompareAndSwap(false, true) {
			d.Logger.Warn("refused a downlink for a device of another application", "application_id", d.Application)
		}
		return messages.DeviceID{}, messages.Errorf(messages.CodeForbidden, "application_mismatch",
			"the device is not of application %s, which this integration belongs to", d.Application)
	}
	if messages.ValidateID(device.DeviceID) != nil {
		return messages.DeviceID{}, messages.Invalid("no_device_id",
			`the request names no device: send {"end_device_ids":{"device_id":"dev1","application_ids":{"application_id":"%s"}},"downlinks":[...]}`, d.Application)
	}
	return device, nil
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
	d.Logger.Debug("downlink request refused", "application_id", d.Application, "device_id", device.DeviceID, "error", reason)
	if device.DeviceID == "" || len(downlinks) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := d.Downlinks.FailDownlinks(ctx, device, downlinks, reason); err != nil && !errors.Is(err, messages.ErrNotFound) {
		d.Logger.Warn("could not report a refused downlink", "application_id", d.Application, "device_id", device.DeviceID, "error", err)
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
