package webhook

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"lorikeet/messages"
)

// Deliver sends one event: DeliverBatch.
func (w *Webhook) Deliver(ctx context.Context, e messages.LogEntry) error {
	_, err := w.DeliverBatch(ctx, []messages.LogEntry{e})
	return err
}

// DeliverBatch sends events that have one BatchKey in one request, and returns nil on a 2xx answer. 408, 421, 425, 429 (with its Retry-After), 401, 403, 407,
// 5xx and network errors can be retried; other answers are permanent after 5 tries, 404, 405 and 410 only if other events pass. status is that of the
// answer, 0 if there was none.
func (w *Webhook) DeliverBatch(ctx context.Context, entries []messages.LogEntry) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, w.sender.cfg.Timeout)
	defer cancel()
	req, err := w.request(ctx, entries)
	if err != nil {
		return 0, err
	}
	res, err := w.client.Do(req)
	if err != nil {
		return 0, requestError(err)
	}
	detail := readBody(res, cancel)
	if res.StatusCode/100 == 2 {
		return res.StatusCode, nil
	}
	return res.StatusCode, &StatusError{Code: res.StatusCode, Detail: printable(detail), retryAfter: retryAfter(res, w.sender.cfg.Now())}
}

// BatchKey is the URL that an event goes to: only events with the same one can share a request. "" if the event can't be sent.
func (w *Webhook) BatchKey(e messages.LogEntry) string {
	endpoint := w.urls[e.Type]
	if endpoint == nil {
		return ""
	}
	target, err := endpoint.expand(e.Event)
	if err != nil {
		return ""
	}
	return target
}

func (w *Webhook) request(ctx context.Context, entries []messages.LogEntry) (*http.Request, error) {
	first := entries[0]
	endpoint := w.urls[first.Type]
	if endpoint == nil {
		return nil, fmt.Errorf("%w: the webhook has no path for %s", messages.ErrPermanent, first.Type)
	}
	target, err := endpoint.expand(first.Event)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", messages.ErrPermanent, err)
	}
	body, err := w.body(entries)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", messages.ErrPermanent, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%w: the URL of the webhook is not valid", messages.ErrPermanent)
	}
	req.Header = w.header.Clone()
	w.setDownlinkHeaders(req.Header, entries)
	id := first.ID
	if w.batch != nil {
		id = batchID(entries)
		req.Header.Set("X-Event-Count", strconv.Itoa(len(entries)))
	} else if id != "" {
		req.Header.Set("X-Event-Id", id)
	}
	if id != "" { // the same in every try, so that the receiver can drop repeats
		req.Header.Set("Idempotency-Key", id)
		w.signer.sign(req.Header, id, w.sender.cfg.Now(), body)
	}
	return req, nil
}

// setDownlinkHeaders names the push URLs of the device, unless the request is about several devices.
func (w *Webhook) setDownlinkHeaders(h http.Header, entries []messages.LogEntry) {
	if w.hook.DownlinkAPIKey == "" || w.sender.cfg.PublicURL == "" {
		return
	}
	device := entries[0].Device
	for _, e := range entries[1:] {
		if e.Device != device {
			return
		}
	}
	down := fmt.Sprintf("%s/api/v3/as/applications/%s/webhooks/%s/devices/%s/down/", w.sender.cfg.PublicURL,
		url.PathEscape(device.ApplicationID), url.PathEscape(w.hook.IDs.WebhookID), url.PathEscape(device.DeviceID))
	h.Set("X-Downlink-Push", down+"push")
	h.Set("X-Downlink-Replace", down+"replace")
}

// body is one event, or in a batch an array of them. An event in a batch has its id as its first member, since headers can't carry it.
func (w *Webhook) body(entries []messages.LogEntry) ([]byte, error) {
	if w.batch == nil {
		return w.encode(entries[0])
	}
	out := []byte{'['}
	for i, e := range entries {
		one, err := w.encode(e)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			out = append(out, ',')
		}
		if len(one) > 2 && one[0] == '{' && e.ID != "" {
			id, err := json.Marshal(e.ID)
			if err != nil {
				return nil, err
			}
			out = append(append(append(append(out, `{"event_id":`...), id...), ','), one[1:]...)
			continue
		}
		out = append(out, one...)
	}
	return append(out, ']'), nil
}

func (w *Webhook) encode(e messages.LogEntry) (out []byte, err error) {
	out = e.JSON
	if mask := w.mask[e.Type]; mask != nil {
		if out, err = mask.filter(out); err != nil {
			return nil, fmt.Errorf("filter the event: %w", err)
		}
	}
	if w.hook.Format == formatProtobuf {
		if out, err = w.sender.cfg.Encoder(out); err != nil {
			return nil, fmt.Errorf("encode the event as protobuf: %w", err)
		}
	}
	return out, nil
}

// batchID names a request by the events in it, so that a repeat of it has the same id.
func batchID(entries []messages.LogEntry) string {
	h := sha256.New()
	for _, e := range entries {
		fmt.Fprintf(h, "%d:%s,", len(e.ID), e.ID)
	}
	return "batch_" + hex.EncodeToString(h.Sum(nil)[:16])
}
