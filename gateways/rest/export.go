package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"

	"lorikeet/gateways/rest/devicefile"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// exportDevices answers with all devices of the application, complete: settings, keys, counters, nonces and queue. They are sealed under the passphrase
// of the header, unless the query says plain=true.
func (s *Server) exportDevices(c *call) error {
	fleet, err := c.fleet()
	if err != nil {
		return err
	}
	plain := false
	if text := c.QueryParam("plain"); text != "" {
		if plain, err = strconv.ParseBool(text); err != nil {
			return messages.Invalid("invalid_plain", "plain=%s: use true or false", shorten(text))
		}
	}
	passphrase := []byte(c.Request().Header.Get(passphraseHeader))
	if !plain && len(passphrase) == 0 {
		return messages.Invalid("no_passphrase", "give a passphrase in the header %s, under which the devices are sealed; or ask for plain=true, which shows all keys", passphraseHeader)
	}
	c.Response().Header().Set("Content-Disposition", `attachment; filename="`+c.app()+`-devices.jsonl"`)
	out := newDownload(c, "application/x-ndjson", false)
	defer out.close()
	e := exporter{fleet: fleet, out: out}
	if plain {
		c.Response().Header().Add("X-Warning", "the answer holds the keys of the devices in clear")
	} else if e.seal, err = devicefile.NewWriter(&out.buffer, c.app(), time.Now(), passphrase); err != nil {
		return err
	}
	err = fleet.EachDevice(c.ctx(), c.app(), func(devices []v3.EndDevice) error { return e.write(c.ctx(), devices) })
	if err == nil && e.seal != nil {
		err = e.seal.Close()
	}
	if err != nil && out.sent {
		s.failLate(c, out, err, "\n")
		return nil
	}
	if err != nil {
		return err
	}
	return out.finish("")
}

type exporter struct {
	fleet Fleet
	out   *download
	seal  *devicefile.Writer // nil: plain
}

// write sends some devices, in their order.
func (e *exporter) write(ctx context.Context, devices []v3.EndDevice) error {
	lines := make([][]byte, len(devices))
	errs := make([]error, len(devices))
	var wg sync.WaitGroup
	slots := make(chan struct{}, importWorkers)
	for i := range devices {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			lines[i], errs[i] = e.device(ctx, devices[i])
		})
	}
	wg.Wait()
	for i, line := range lines {
		if errs[i] != nil {
			return fmt.Errorf("export %s: %w", devices[i].DeviceID(), errs[i])
		}
		if e.seal == nil {
			e.out.buffer.Write(append(line, '\n'))
		} else if err := e.seal.Device(devices[i].IDs.DeviceID, line); err != nil {
			return err
		}
	}
	return e.out.flush()
}

// device is the settings of a device with its state.
func (e *exporter) device(ctx context.Context, dev v3.EndDevice) ([]byte, error) {
	t, _, err := e.fleet.StoredState(ctx, dev.DeviceID())
	if err != nil {
		return nil, err
	}
	state := t.EndDevice
	t.EndDevice = dev
	t.Session, t.PendingSession = state.Session, state.PendingSession
	t.LastDevNonce, t.UsedDevNonces, t.LastJoinNonce = state.LastDevNonce, state.UsedDevNonces, state.LastJoinNonce
	t.LastSeenAt, t.ActivatedAt = state.LastSeenAt, state.ActivatedAt
	if t.Session != nil {
		t.IDs.DevAddr = t.Session.DevAddr
	}
	return json.Marshal(t)
}
