package rest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

func TestApplications(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.do("POST", "/users/admin/applications", `{"application":{"ids":{"application_id":"app1"},"name":"n","attributes":{"key1":"v"}}}`).is(200).
		has("ids.application_id", `"app1"`).has("name", `"n"`)
	d.do("POST", "/organizations/org1/applications", `{"application":{"ids":{"application_id":"app2"}}}`).is(200)
	d.do("POST", "/users/admin/applications", `{"application":{"ids":{"application_id":"app1"}}}`).fails(409, "id_taken")
	d.do("POST", "/users/admin/applications", `{"application":{"ids":{"application_id":"App"}}}`).fails(400, "invalid_id")
	d.do("POST", "/users/admin/applications", `{"ids":{"application_id":"app3"}}`).fails(400, "no_application")
	d.do("GET", "/applications/app1", nil).is(200).has("name", "").has("ids", `{"application_id":"app1"}`)
	d.do("GET", "/applications/app1?field_mask=name,attributes", nil).is(200).has("name", `"n"`).has("attributes.key1", `"v"`)
	d.do("GET", "/users/admin/applications?order=-application_id&limit=1&field_mask=name", nil).is(200)
	if got := d.do("GET", "/applications?order=-application_id&limit=1", nil).is(200); !strings.Contains(got.Body, `"app2"`) || strings.Contains(got.Body, `"app1"`) || got.Header.Get("X-Total-Count") != "2" {
		t.Errorf("%v %s", got.Header, got.Body)
	}
	d.do("PUT", "/applications/app1", `{"application":{"ids":{"application_id":"other"},"description":"d","name":"no"},"field_mask":{"paths":["description","ids"]}}`).is(200).
		has("description", `"d"`).has("ids.application_id", `"app1"`)
	d.do("GET", "/applications/app1?field_mask=name", nil).has("name", `"n"`)
	d.do("PUT", "/applications/app9", `{"application":{"name":"x"}}`).fails(404, "application_not_found")
	d.do("GET", "/applications/app1/rights", nil).is(200).has("rights", rightsText(applicationRights))
	key := d.keyFor("app1", messages.RightApplicationLink)
	d.with(key).do("GET", "/applications/app1/rights", nil).is(200).has("rights",
		`["RIGHT_APPLICATION_INFO","RIGHT_APPLICATION_TRAFFIC_READ","RIGHT_APPLICATION_TRAFFIC_DOWN_WRITE","RIGHT_APPLICATION_LINK"]`)
	d.do("GET", "/applications/app9/rights", nil).fails(404, "application_not_found")
	d.do("DELETE", "/applications/app1", nil).is(200)
	d.do("GET", "/applications/app1", nil).fails(404, "application_not_found")
	d.do("DELETE", "/applications/app1", nil).fails(404, "application_not_found")
	d.with(key).do("GET", "/applications/app1/rights", nil).fails(401, "unauthenticated")
}

func rightsText(rights []messages.Right) string {
	var names []string
	for _, r := range rights {
		names = append(names, `"`+string(r)+`"`)
	}
	return "[" + strings.Join(names, ",") + "]"
}

func TestDeletingAnApplicationLeavesNoSession(t *testing.T) {
	t.Parallel()
	var calls []string
	var fail error
	var d *door
	d = newDoor(t, func(c *Config) {
		c.DeleteApplicationData = func(_ context.Context, app string) error {
			exists := "gone"
			if d.registry.ApplicationExists(app) {
				exists = "there"
			}
			calls = append(calls, app+" "+exists)
			return fail
		}
	})
	d.app("app1")
	d.do("POST", "/applications/app1/devices", otaa).is(200)
	d.do("POST", "/applications/app1/devices", abp).is(200)
	fail = errors.New("disk")
	d.do("DELETE", "/applications/app1", nil).fails(500, "internal")
	d.do("GET", "/applications/app1/devices/abp1", nil).is(200) // can be repeated
	d.devices.failOnce("delete", messages.Errorf(messages.CodeUnavailable, "disk_full", "free some space"))
	d.do("DELETE", "/applications/app1", nil).fails(503, "disk_full")
	fail, calls = nil, nil
	d.do("DELETE", "/applications/app1", nil).is(200)
	if got := strings.Join(calls, ","); got != "app1 there,app1 gone" {
		t.Errorf("data is deleted before and after: %s", got)
	}
	if _, ok := d.devices.state("app1", "abp1"); ok {
		t.Error("a session is left")
	}
	d.app("app1")
	d.do("GET", "/applications/app1/devices", nil).is(200).has("end_devices", "[]")
}

// While an application goes away, others write devices in it. Whichever comes first, no session stays behind.
func TestDevicesWrittenDuringTheDeletionLeaveNoSession(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	for range 20 {
		d.app("app1")
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				if got := d.do("POST", "/applications/app1/devices", strings.Replace(abp, "abp1", fmt.Sprintf("abp%d", i), 1)); got.Status != 200 && got.Status != 404 {
					t.Errorf("HTTP %d %s", got.Status, got.Body)
				}
			})
			if i == 4 {
				wg.Go(func() { d.do("DELETE", "/applications/app1", nil).is(200) })
			}
		}
		wg.Wait()
		d.devices.mu.Lock()
		if len(d.devices.states) > 0 {
			t.Errorf("sessions are left: %v", d.devices.states)
		}
		d.devices.mu.Unlock()
	}
}

func TestLink(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.app("app1")
	d.do("GET", "/as/applications/app1/link", nil).is(200).has("default_formatters", "")
	d.do("PUT", "/as/applications/app1/link", `{"link":{"default_formatters":{"up_formatter":"FORMATTER_JAVASCRIPT","up_formatter_parameter":"if (a < b && c) {}"}}}`).is(200)
	d.do("GET", "/as/applications/app1/link?field_mask=default_formatters.up_formatter", nil).is(200).has("default_formatters", `{"up_formatter":"FORMATTER_JAVASCRIPT"}`)
	link, err := d.registry.Link(t.Context(), "app1")
	if err != nil || link.DefaultFormatters.UpFormatterParameter != "if (a < b && c) {}" {
		t.Errorf("link %+v, %v", link, err)
	}
	d.do("PUT", "/as/applications/app1/link", `{"link":{"default_formatters":{"down_formatter":"FORMATTER_CAYENNELPP"},"skip_payload_crypto":true},"field_mask":{"paths":["default_formatters.down_formatter"]}}`).
		is(200).has("default_formatters.down_formatter", `"FORMATTER_CAYENNELPP"`)
	d.do("GET", "/as/applications/app1/link", nil).has("default_formatters.up_formatter", `"FORMATTER_JAVASCRIPT"`).has("skip_payload_crypto", "")
	d.do("PUT", "/as/applications/app1/link", `{"link":{"default_formatters":{"up_formatter":"FORMATTER_COBOL"}}}`).fails(400, "invalid_up_formatter")
	d.do("PUT", "/as/applications/app1/link", `{}`).fails(400, "no_link")
	d.do("DELETE", "/as/applications/app1/link", nil).is(200)
	d.do("GET", "/as/applications/app1/link", nil).is(200).has("default_formatters", "")
	for _, method := range []string{"GET", "DELETE"} {
		d.do(method, "/as/applications/app9/link", nil).fails(404, "application_not_found")
	}
}

func TestAPIKeys(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.app("app1")
	made := d.do("POST", "/applications/app1/api-keys", `{"name":"k","rights":["RIGHT_APPLICATION_TRAFFIC_READ","RIGHT_APPLICATION_INFO"],"expires_at":"2099-01-01T00:00:00Z"}`).is(200)
	key, id := strings.Trim(made.at("key"), `"`), strings.Trim(made.at("id"), `"`)
	if !strings.HasPrefix(key, "NNSXS."+id+".") {
		t.Fatalf("key %q, id %q", key, id)
	}
	d.with(key).do("GET", "/auth_info", nil).is(200).has("api_key.entity_ids", `{"application_ids":{"application_id":"app1"}}`).has("api_key.api_key.name", `"k"`).has("is_admin", "")
	for _, path := range []string{"/applications/app1/api-keys", "/applications/app1/api-keys/" + id} {
		if got := d.do("GET", path, nil).is(200); strings.Contains(got.Body, key[len("NNSXS.")+len(id):]) || !strings.Contains(got.Body, id) {
			t.Errorf("%s: %s", path, got.Body)
		}
	}
	d.do("PUT", "/applications/app1/api-keys/"+id, `{"api_key":{"name":"other","rights":[]},"field_mask":{"paths":["name"]}}`).is(200).has("name", `"other"`)
	d.do("PUT", "/applications/app1/api-keys/"+id, `{"api_key":{"rights":["RIGHT_APPLICATION_INFO"]}}`).is(200).has("rights", `["RIGHT_APPLICATION_INFO"]`)
	d.do("PUT", "/applications/app1/api-keys/"+id, `{"api_key":{"rights":["RIGHT_USER_ALL"]}}`).fails(400, "invalid_rights")
	d.do("POST", "/applications/app1/api-keys", `{"rights":[]}`).fails(400, "invalid_rights")
	d.do("POST", "/applications/app1/api-keys", `{"rights":["RIGHT_APPLICATION_INFO"],"expires_at":"2001-01-01T00:00:00Z"}`).fails(400, "invalid_expires_at")
	d.do("POST", "/applications/app1/api-keys", `{"rights":["RIGHT_APPLICATION_INFO"],"expires_at":"soon"}`).fails(400, "decode_body")
	d.do("POST", "/applications/app9/api-keys", `{"rights":["RIGHT_APPLICATION_INFO"]}`).fails(404, "application_not_found")
	d.app("app2")
	d.do("GET", "/applications/app2/api-keys/"+id, nil).fails(404, "api_key_not_found")
	d.do("DELETE", "/applications/app2/api-keys/"+id, nil).fails(404, "api_key_not_found")
	d.do("DELETE", "/applications/app1/api-keys/"+id, nil).is(200)
	d.with(key).do("GET", "/auth_info", nil).fails(401, "unauthenticated")
}

func TestAKeyCantGiveWhatItHasNot(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.app("app1")
	manager := d.with(d.keyFor("app1", messages.RightApplicationSettingsAPIKeys, messages.RightApplicationInfo))
	for _, right := range []string{"RIGHT_APPLICATION_ALL", "RIGHT_APPLICATION_TRAFFIC_READ", "RIGHT_APPLICATION_LINK", "RIGHT_GATEWAY_ALL"} {
		manager.do("POST", "/applications/app1/api-keys", `{"rights":["RIGHT_APPLICATION_INFO","`+right+`"]}`).fails(403, "insufficient_application_rights")
	}
	made := manager.do("POST", "/applications/app1/api-keys", `{"rights":["RIGHT_APPLICATION_INFO"]}`).is(200)
	id := strings.Trim(made.at("id"), `"`)
	manager.do("PUT", "/applications/app1/api-keys/"+id, `{"api_key":{"rights":["RIGHT_APPLICATION_ALL"]}}`).fails(403, "insufficient_application_rights")
	manager.do("PUT", "/applications/app1/api-keys/"+id, `{"api_key":{"rights":["RIGHT_APPLICATION_SETTINGS_API_KEYS"]}}`).is(200)

	strong, err := d.registry.CreateAPIKey(t.Context(), "app1", v3.APIKey{Rights: []messages.Right{messages.RightApplicationTrafficRead, messages.RightApplicationInfo}})
	if err != nil {
		t.Fatal(err)
	}
	path := "/applications/app1/api-keys/" + strong.ID
	manager.do("PUT", path, `{"api_key":{"name":"n"},"field_mask":{"paths":["name"]}}`).is(200)
	manager.do("PUT", path, `{"api_key":{"rights":["RIGHT_APPLICATION_TRAFFIC_READ"]}}`).is(200)                               // takes away what it has itself
	manager.do("PUT", path, `{"api_key":{"rights":["RIGHT_APPLICATION_INFO"]}}`).fails(403, "insufficient_application_rights") // and not what it has not
}

func TestAdminKeys(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	made := d.do("POST", "/users/admin/api-keys", `{"name":"second"}`).is(200)
	second := d.with(strings.Trim(made.at("key"), `"`))
	second.app("app1")
	second.do("GET", "/auth_info", nil).is(200).has("is_admin", "true").has("api_key.entity_ids", `{"user_ids":{"user_id":"admin"}}`).
		has("universal_rights.rights", rightsText(append(append([]messages.Right{}, applicationRights...), messages.RightGatewayAll)))
	if got := d.do("GET", "/users/admin/api-keys", nil).is(200); !strings.Contains(got.Body, `"second"`) || !strings.Contains(got.Body, `"preset"`) {
		t.Error(got.Body)
	}
	path := "/users/admin/api-keys/" + strings.Trim(made.at("id"), `"`)
	d.do("PUT", path, `{"api_key":{"name":"third"},"field_mask":{"paths":["name"]}}`).is(200).has("name", `"third"`)
	d.do("GET", path, nil).is(200).has("name", `"third"`)
	d.do("DELETE", path, nil).is(200)
	second.do("GET", "/auth_info", nil).fails(401, "unauthenticated")
}
