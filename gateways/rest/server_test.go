package rest

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

func TestRadioGateways(t *testing.T) {
	t.Parallel()
	d := newDoor(t, func(c *Config) {
		c.GatewayStats = func(eui messages.EUI64) (v3.GatewayConnectionStats, bool) {
			return v3.GatewayConnectionStats{
				ConnectedAt: at("2026-01-01T00:00:00Z"), Protocol: "udp", UplinkCount: 12345678901,
				LastStatus:     &v3.GatewayStatus{Metrics: map[string]float64{"rxin": 3}},
				RoundTripTimes: &v3.RoundTripTimes{Min: v3.Duration(20 * time.Millisecond), Count: 1},
			}, eui == messages.EUI64{0xAA, 0xBB, 0xCC, 0, 0, 0, 0, 1}
		}
	})
	d.do("POST", "/users/admin/gateways", `{"gateway":{"ids":{"gateway_id":"gtw1","eui":"aabbcc0000000001"},"name":"roof","frequency_plan_id":"EU_863_870","auto_registered":true,
		"antennas":[{"location":{"latitude":52.1,"longitude":4.9}}],"gateway_server_address":"x"},"collaborator":{}}`).is(200).
		has("ids.eui", `"AABBCC0000000001"`).has("name", `"roof"`).has("auto_registered", "")
	d.do("POST", "/organizations/org1/gateways", `{"gateway":{"ids":{"gateway_id":"gtw2"}}}`).is(200)
	d.do("POST", "/users/admin/gateways", `{"gateway":{"ids":{"gateway_id":"gtw1"}}}`).fails(409, "id_taken")
	d.do("POST", "/users/admin/gateways", `{"gateway":{"ids":{"gateway_id":"gtw3","eui":"aabbcc0000000001"}}}`).fails(409, "gateway_eui_taken")
	d.do("GET", "/gateways/gtw1", nil).is(200).has("name", "").has("ids.gateway_id", `"gtw1"`)
	if got := d.do("GET", "/gateways?order=-gateway_id&limit=1&field_mask=name", nil).is(200); !strings.Contains(got.Body, "gtw2") || got.Header.Get("X-Total-Count") != "2" {
		t.Error(got.Body)
	}
	d.do("GET", "/users/admin/gateways?order=gateway_eui", nil).is(200)
	if got := d.do("GET", "/organizations/org1/gateways?field_mask=ids&limit=100&page=1", nil).is(200); !strings.Contains(got.Body, "gtw1") {
		t.Error(got.Body)
	}
	d.do("GET", "/gateways/gtw1?field_mask=gateway_server_address", nil).is(200).has("gateway_server_address", `"x"`)
	d.do("GET", "/gateways/gtw1/rights", nil).is(200).has("rights", `["RIGHT_GATEWAY_ALL"]`)
	d.do("GET", "/gateways/gtw9/rights", nil).fails(404, "gateway_not_found")
	d.do("PUT", "/gateways/gtw1", `{"gateway":{"ids":{"gateway_id":"other"},"antennas":[{"location":{"latitude":1.5}}],"name":"no"},"field_mask":{"paths":["antennas"]}}`).is(200).
		has("antennas", `[{"location":{"latitude":1.5}}]`).has("name", "")
	d.do("GET", "/gateways/gtw1?field_mask=name", nil).has("name", `"roof"`)
	d.do("GET", "/gs/gateways/gtw1/connection/stats", nil).is(200).has("uplink_count", `"12345678901"`).has("protocol", `"udp"`).has("downlink_count", "").
		has("round_trip_times.min", `"0.02s"`).has("last_status.metrics.rxin", "3")
	d.do("GET", "/gs/gateways/gtw2/connection/stats", nil).fails(404, "not_connected")
	d.do("GET", "/gs/gateways/gtw9/connection/stats", nil).fails(404, "gateway_not_found")
	d.do("DELETE", "/gateways/gtw1", nil).is(200)
	d.do("DELETE", "/gateways/gtw1", nil).fails(404, "gateway_not_found")
	d.do("PUT", "/gateways/gtw1", `{"gateway":{"name":"x"}}`).fails(404, "gateway_not_found")
}

func TestWhatTheServerTellsOfItself(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.app("app1")
	d.do("GET", "/as/applications/app1/mqtt-connection-info", nil).is(200).has("public_address", `"lora.example.com:1883"`).has("username", `"app1"`)
	d.do("GET", "/as/applications/app9/mqtt-connection-info", nil).fails(404, "application_not_found")
	d.do("GET", "/as/configuration", nil).is(200).has("configuration.pubsub.providers.nats", `"ENABLED"`)
	plans := d.do("GET", "/configuration/frequency-plans", nil).is(200)
	for _, p := range frequencyPlans {
		if _, _, ok := v3.FrequencyPlan(p.ID); !ok || !strings.Contains(plans.Body, `"`+p.ID+`"`) {
			t.Errorf("plan %s: supported %t, in %s", p.ID, ok, plans.Body)
		}
	}
	if got := d.do("GET", "/configuration/frequency-plans?base_frequency=915", nil).is(200); strings.Contains(got.Body, "EU_863") || !strings.Contains(got.Body, "FSB_8") {
		t.Error(got.Body)
	}
	if got := d.do("GET", "/configuration/frequency-plans?band_id=EU_863_870", nil).is(200); !strings.Contains(got.Body, "EU_863") || strings.Contains(got.Body, "FSB_8") {
		t.Error(got.Body)
	}
}

func TestHealthReadinessAndMetricsNeedNoKey(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	var unready error
	d := newDoor(t, func(c *Config) {
		c.Registerer, c.Metrics = reg, promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
		c.Ready = func() error { return unready }
	})
	get := func(path, accept string) reply {
		req := httptest.NewRequest(http.MethodGet, path, nil)
		req.Header.Set("Accept", accept)
		return d.send(req)
	}
	get("/healthz", "").is(200).has("status", `"ok"`)
	get("/readyz", "").is(200).has("status", `"ok"`)
	unready = messages.Errorf(messages.CodeUnavailable, "disk_full", "the disk is full")
	get("/readyz", "").is(503).has("reason", `"the disk is full"`)
	unready = fmt.Errorf("secret path: %w", errors.New("x"))
	get("/readyz", "").is(503).has("reason", `"internal error"`)
	get("/", "").is(200).has("api", `"https://lora.example.com/api/v3"`)
	if got := get("/", "text/html,*/*").is(200); !strings.Contains(got.Body, "/api/v3") || !strings.HasPrefix(got.Header.Get("Content-Type"), "text/html") {
		t.Error(got.Header, got.Body)
	}
	get("/wp-login.php", "").is(404)
	d.send(httptest.NewRequest(http.MethodHead, "/healthz", nil)).is(200)
	d.send(httptest.NewRequest("BREW", "/readyz", nil)).is(405)
	got := get("/metrics", "").is(200)
	for _, line := range []string{
		`lorikeet_rest_requests_total{method="GET",route="/healthz",status="200"} 1`, `lorikeet_rest_requests_total{method="GET",route="/readyz",status="503"} 2`,
		`lorikeet_rest_requests_total{method="GET",route="none",status="404"} 1`, `lorikeet_rest_requests_total{method="other",route="none",status="405"} 1`,
	} {
		if !strings.Contains(got.Body, line) {
			t.Errorf("%s is not in\n%s", line, got.Body)
		}
	}
}

// deadlines notes what is set, and what was in force when the answer began.
type deadlines struct {
	*httptest.ResponseRecorder
	set     time.Time
	inForce []time.Time // in the handler, and at the first byte
}

func (d *deadlines) SetWriteDeadline(t time.Time) error { d.set = t; return nil }

func (d *deadlines) WriteHeader(status int) {
	d.inForce = append(d.inForce, d.set)
	d.ResponseRecorder.WriteHeader(status)
}

func TestTheTimeLimitOfAnAnswerBeginsWithItsFirstByte(t *testing.T) {
	t.Parallel()
	rec := &deadlines{ResponseRecorder: httptest.NewRecorder(), set: *at("2026-01-01T00:00:00Z")} // by the server, when the request came
	d := newDoor(t, func(c *Config) { c.Ready = func() error { rec.inForce = append(rec.inForce, rec.set); return nil } })
	d.server.echo.ServeHTTP(rec, httptest.NewRequest("GET", "/readyz", nil))
	if rec.Code != 200 || len(rec.inForce) != 2 || !rec.inForce[0].IsZero() || !rec.inForce[1].After(time.Now()) {
		t.Errorf("HTTP %d, deadlines %v", rec.Code, rec.inForce)
	}
}
