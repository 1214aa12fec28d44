package test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lorikeet/cmd/lorikeet/simulator"
	v3 "lorikeet/messages/v3"
)

// deviceCommand runs "lorikeet device" against the server and gives its standard output.
func (p *process) deviceCommand(args ...string) string {
	p.t.Helper()
	path, err := binary()
	if err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.Command(path, append([]string{"device"}, args...)...)
	cmd.Env = append(os.Environ(), "LORIKEET_SERVER=http://"+p.rest, "LORIKEET_API_KEY="+adminKey, "LORIKEET_PASSPHRASE=move the whole fleet")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			p.t.Fatalf("%v: %v\n%s%s", cmd.Args, err, out, exit.Stderr)
		}
		p.t.Fatal(err)
	}
	return string(out)
}

// history gives the uplinks that the server keeps, the oldest first.
func (p *process) history(app, query string) (ups []v3.ApplicationUp) {
	p.t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://"+p.rest+"/api/v3/as/applications/"+app+"/packages/storage/"+query, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+adminKey)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	for dec := json.NewDecoder(resp.Body); ; {
		var line struct {
			Result v3.ApplicationUp `json:"result"`
		}
		if err := dec.Decode(&line); errors.Is(err, io.EOF) {
			return ups
		} else if err != nil {
			p.t.Fatal(err)
		}
		ups = append(ups, line.Result)
	}
}

// waitForUplinks waits until the server keeps so many uplinks of every device.
func (p *process) waitForUplinks(app string, devices, each int) {
	p.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		counts := map[string]int{}
		for _, up := range p.history(app, "uplink_message") {
			counts[up.EndDeviceIDs.DeviceID]++
		}
		enough := 0
		for _, n := range counts {
			if n >= each {
				enough++
			}
		}
		if enough >= devices {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("after a minute the uplinks are %v", counts)
		}
	}
}

// TestDevicesGoOnAfterTheirMove exports a fleet from a server under traffic, ends that server, and imports it on another one, to which the radio gateway
// moves by itself. The devices do not know: none joins again, and no FCntDown is used twice.
func TestDevicesGoOnAfterTheirMove(t *testing.T) {
	t.Parallel()
	const app, devices = "moving", 5
	from, to := start(t), start(t)
	from.application(app)
	to.application(app)

	cfg := simulator.DefaultConfig()
	cfg.HTTP, cfg.UDP, cfg.MQTT, cfg.AdminKey, cfg.ApplicationID = "http://"+from.rest, from.udp+","+to.udp, "", adminKey, app
	cfg.Devices, cfg.Gateways, cfg.Rate, cfg.Duration, cfg.Confirmed, cfg.RealTime, cfg.KeepAlive = devices, 1, 20, time.Hour, 0.5, false, 100*time.Millisecond
	ctx, stop := context.WithTimeout(context.Background(), 3*time.Minute)
	defer stop()
	done := make(chan simulator.Report, 1)
	go func() {
		r, err := simulator.Run(ctx, cfg, io.Discard)
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		done <- r
	}()
	from.waitForUplinks(app, devices, 5)
	file := filepath.Join(t.TempDir(), "fleet.jsonl")
	from.deviceCommand("export", "-a", app, "-o", file)
	before := from.history(app, "uplink_message")
	from.kill()
	if b, err := os.ReadFile(file); err != nil || strings.Contains(string(b), "f_nwk_s_int_key") {
		t.Fatalf("the export is not sealed, or not there: %v", err)
	}
	if out := to.deviceCommand("import", "-a", app, "--json", file); strings.Count(out, `"status":"created"`) != devices {
		t.Fatalf("import: %s", out)
	}
	to.waitForUplinks(app, devices, 5)
	stop()
	report := <-done
	if report.FCntDownReused > 0 || report.Rejected[simulator.FCntTooLow] > 0 || report.JoinNonceReused > 0 {
		t.Errorf("counters went back: %s %v", report.FirstFault, report.Rejected)
	}
	if joins := to.history(app, "join_accept"); len(joins) > 0 {
		t.Errorf("%d devices joined again", len(joins))
	}
	last := map[string]v3.Uint32{}
	for _, up := range append(before, to.history(app, "uplink_message")...) {
		id, n := up.EndDeviceIDs.DeviceID, up.UplinkMessage.FCnt
		if was, ok := last[id]; ok && n <= was {
			t.Errorf("%s: FCntUp %d after %d", id, n, was)
		}
		last[id] = n
	}
	if list := to.deviceCommand("list", "-a", app); strings.Count(list, "\n") != devices {
		t.Errorf("list: %s", list)
	}
	if one := to.deviceCommand("get", "-a", app, before[0].EndDeviceIDs.DeviceID); !strings.Contains(one, `"key": "***"`) || !strings.Contains(one, `"last_f_cnt_up"`) {
		t.Errorf("get: %s", one)
	}
}
