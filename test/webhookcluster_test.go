package test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"lorikeet/cmd/lorikeet/simulator"
	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// TestAnyNodeAnswersForAnIntegration: an integration runs on one node of a cluster; what became of its events can be asked at each of them, and each can
// have it repeat events and drive dead letters again.
func TestAnyNodeAnswersForAnIntegration(t *testing.T) {
	t.Parallel()
	c := startNodes(t, sharedNATS(startJetStream(t), 1), onLoopback(t), onLoopback(t))
	var mu sync.Mutex
	refuse, got := true, map[string]int{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var up v3.ApplicationUp
		_ = json.NewDecoder(r.Body).Decode(&up)
		mu.Lock()
		defer mu.Unlock()
		if refuse && up.EndDeviceIDs.DeviceID == "dev2" {
			w.WriteHeader(http.StatusUnprocessableEntity)
			return
		}
		got[r.Header.Get("Idempotency-Key")]++
	}))
	t.Cleanup(s.Close)
	call := func(n *node, method, path string, in, out any) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := simulator.NewClient("http://"+n.place.rest, adminKey).Do(ctx, method, path, in, out); err != nil {
			t.Fatalf("%s: %v", n.name, err)
		}
	}
	const app, base = "hook-app", "/as/webhooks/hook-app/hook"
	first := c.all[0]
	call(first, "POST", "/users/admin/applications", object{"application": object{"ids": object{"application_id": app}}}, nil)
	call(first, "POST", "/as/webhooks/"+app, object{"webhook": object{"ids": object{"webhook_id": "hook"}, "base_url": s.URL, "format": "json", "uplink_message": object{}}}, nil)
	for i := range 3 {
		id := fmt.Sprintf("dev%d", i+1)
		call(first, "POST", "/applications/"+app+"/devices", object{"end_device": object{"ids": object{"device_id": id, "dev_eui": fmt.Sprintf("70B3D5700000000%d", i), "join_eui": "0000000000000000"},
			"lorawan_version": "MAC_V1_0_3", "lorawan_phy_version": "PHY_V1_0_3_REV_A", "frequency_plan_id": "EU_863_870", "supports_join": true,
			"root_keys": object{"app_key": object{"key": "00112233445566778899AABBCCDDEEFF"}}}}, nil)
		call(first, "POST", "/as/applications/"+app+"/devices/"+id+"/up/simulate", object{"uplink_message": object{"f_port": 1, "f_cnt": 1, "frm_payload": "AQ=="}}, nil)
	}
	var page messages.DeadLetterPage
	c.until("the refused event is a dead letter", func() bool {
		call(first, "GET", base+"/dead-letters", nil, &page)
		return page.Total == 1
	})
	runs := map[string]bool{}
	for _, n := range c.all {
		var status struct {
			Status messages.DeliveryStatus `json:"status"`
		}
		c.until("the cursor has passed everything", func() bool {
			call(n, "GET", base+"/status", nil, &status)
			return status.Status.Lag == 0
		})
		if st := status.Status; st.Delivered != 2 || st.DeadLetters != 1 || st.DeadLettersKept != 1 || st.State != "running" {
			t.Errorf("%s: %+v", n.name, st)
		}
		runs[status.Status.Node] = true
		c.until("the overview shows how far it is behind, at the node that runs it", func() bool {
			var overview messages.ClusterStatus
			call(n, "GET", "/cluster", nil, &overview)
			for _, m := range overview.Members {
				if m.Figures != nil && len(m.Figures.IntegrationLags) == 1 {
					l := m.Figures.IntegrationLags[0]
					return m.Name == status.Status.Node && l.ID == "hook" && l.ApplicationID == app && l.State == "running" && l.Lag == 0
				}
			}
			return false
		})
		var tries messages.AttemptPage
		call(n, "GET", base+"/deliveries?outcome=failed", nil, &tries)
		if tries.Total != 4 || tries.Node != status.Status.Node {
			t.Errorf("%s: %+v", n.name, tries)
		}
		var hook struct {
			Health json.RawMessage `json:"health_status"`
		}
		call(n, "GET", base+"?field_mask=health_status", nil, &hook)
		if !strings.Contains(string(hook.Health), `"status_code":422`) {
			t.Errorf("%s: %s", n.name, hook.Health)
		}
	}
	if len(runs) != 1 || runs[""] {
		t.Errorf("the integration runs on %v", runs)
	}
	mu.Lock()
	refuse = false
	events := len(got)
	mu.Unlock()
	for _, n := range c.all {
		var replayed messages.ReplayResult
		call(n, "POST", base+"/replay", object{"from": time.Now().Add(-time.Hour)}, &replayed)
		if replayed.Events != 3 {
			t.Errorf("%s: %+v", n.name, replayed)
		}
		c.until("everything came again", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(got) == events+1
		})
		c.until("it has caught up", func() bool {
			var status struct {
				Status messages.DeliveryStatus `json:"status"`
			}
			call(n, "GET", base+"/status", nil, &status)
			return status.Status.Lag == 0
		})
	}
	for _, n := range c.all { // a dead letter stays until it is deleted or driven again itself, even if a replay brought its event
		call(n, "GET", base+"/dead-letters", nil, &page)
		if page.Total != 1 {
			t.Errorf("%s: %+v", n.name, page)
		}
	}
	other := c.all[1]
	call(other, "DELETE", base+"/dead-letters/"+page.DeadLetters[0].ID, nil, nil)
	call(first, "GET", base+"/dead-letters", nil, &page)
	if page.Total != 0 {
		t.Errorf("after its deletion: %+v", page)
	}
	c.checkEnds()
}
