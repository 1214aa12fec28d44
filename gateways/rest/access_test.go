package rest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// openPaths need no key.
var openPaths = []string{"/", "/healthz", "/readyz", "/metrics", prefix + "/openapi.json"}

// bodyPaths name the application in the body, where the handler finds it, or no application at all.
var bodyPaths = []string{"/events", "/edcs/claim", "/edcs/claim/info", "/edcs/claim/info/batch", "/qr-codes/end-devices", "/qr-codes/end-devices/parse", "/qr-codes/end-devices/:format_id/parse"}

// params puts an id in place of each parameter of a route.
func params(path, app string) string {
	path = strings.ReplaceAll(path, ":application_id", app)
	return regexp.MustCompile(`:[a-z_]+`).ReplaceAllString(path, "abc1")
}

func TestRoutesNeedAKeyUnlessTheyTellNothing(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	seen := 0
	for _, r := range d.server.echo.Routes() {
		seen++
		req := httptest.NewRequest(r.Method, params(r.Path, "app1"), strings.NewReader(`{}`))
		req.RemoteAddr = fmt.Sprintf("192.0.2.%d:1", seen%256) // an address may fail so many times only
		got := d.send(req)
		if open := slices.Contains(openPaths, r.Path); open != (got.Status != http.StatusUnauthorized) {
			t.Errorf("%s %s without a key: HTTP %d", r.Method, r.Path, got.Status)
		}
	}
	if n := len(routes()); seen != n || n < 70 {
		t.Errorf("echo serves %d routes, the table has %d", seen, n)
	}
}

func TestARouteWithoutARuleKeepsTheServerFromStarting(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	if err := d.server.serve([]route{{method: "GET", path: "/open", handler: (*Server).health}}); err == nil || !strings.Contains(err.Error(), "/open") {
		t.Errorf("a route without a rule gives %v", err)
	}
	d.send(httptest.NewRequest("GET", "/open", nil)).is(404)
}

// required is what The Things Stack asks for on each route of an application.
var required = map[string][]messages.Right{
	"GET /applications/:application_id":                     {messages.RightApplicationInfo},
	"PUT /applications/:application_id":                     {messages.RightApplicationSettingsBasic},
	"DELETE /applications/:application_id":                  {messages.RightApplicationDelete},
	"GET /applications/:application_id/rights":              {},
	"GET /applications/:application_id/api-keys":            {messages.RightApplicationSettingsAPIKeys},
	"POST /applications/:application_id/api-keys":           {messages.RightApplicationSettingsAPIKeys},
	"GET /applications/:application_id/api-keys/:key_id":    {messages.RightApplicationSettingsAPIKeys},
	"PUT /applications/:application_id/api-keys/:key_id":    {messages.RightApplicationSettingsAPIKeys},
	"DELETE /applications/:application_id/api-keys/:key_id": {messages.RightApplicationSettingsAPIKeys},

	"POST /applications/:application_id/restore":                                               {messages.RightApplicationDelete},
	"DELETE /applications/:application_id/purge":                                               {messages.RightApplicationDelete},
	"POST /applications/:application_id/dev-eui":                                               {messages.RightApplicationDevicesWrite},
	"GET /applications/:application_id/collaborators":                                          {messages.RightApplicationSettingsCollab},
	"GET /applications/:application_id/collaborator/user/:user_id":                             {messages.RightApplicationSettingsCollab},
	"PUT /applications/:application_id/collaborators":                                          {messages.RightApplicationInfo},
	"DELETE /applications/:application_id/collaborators/user/:user_id":                         {messages.RightApplicationInfo},
	"GET /edcs/claim/:application_id/devices/:device_id":                                       {messages.RightApplicationDevicesRead},
	"DELETE /edcs/claim/:application_id/devices/:device_id":                                    {messages.RightApplicationDevicesWrite},
	"DELETE /edcs/claim/:application_id/devices/batch":                                         {messages.RightApplicationDevicesWrite},
	"POST /edcs/applications/:application_id/authorize":                                        {messages.RightApplicationSettingsBasic, messages.RightApplicationDevicesWrite, messages.RightApplicationDevicesReadKeys},
	"DELETE /edcs/applications/:application_id/authorize":                                      {messages.RightApplicationSettingsBasic, messages.RightApplicationDevicesWrite, messages.RightApplicationDevicesReadKeys},
	"GET /search/applications/:application_id/devices":                                         {messages.RightApplicationDevicesRead},
	"POST /applications/:application_id/devices/filter":                                        {messages.RightApplicationDevicesRead},
	"GET /applications/:application_id/devices/batch":                                          {messages.RightApplicationDevicesRead},
	"DELETE /applications/:application_id/devices/batch":                                       {messages.RightApplicationDevicesWrite},
	"DELETE /ns/applications/:application_id/devices/batch":                                    {messages.RightApplicationDevicesWrite},
	"DELETE /as/applications/:application_id/devices/batch":                                    {messages.RightApplicationDevicesWrite},
	"DELETE /js/applications/:application_id/devices/batch":                                    {messages.RightApplicationDevicesWrite},
	"GET /as/applications/:application_id/devices/:device_id/packages":                         {messages.RightApplicationDevicesRead},
	"GET /as/applications/:application_id/devices/:device_id/packages/associations":            {messages.RightApplicationDevicesRead},
	"GET /as/applications/:application_id/packages/associations":                               {messages.RightApplicationInfo},
	"GET /as/applications/:application_id/devices/:device_id/packages/associations/:f_port":    {messages.RightApplicationInfo},
	"GET /as/applications/:application_id/packages/associations/:f_port":                       {messages.RightApplicationInfo},
	"PUT /as/applications/:application_id/devices/:device_id/packages/associations/:f_port":    {messages.RightApplicationInfo},
	"PUT /as/applications/:application_id/packages/associations/:f_port":                       {messages.RightApplicationInfo},
	"DELETE /as/applications/:application_id/devices/:device_id/packages/associations/:f_port": {messages.RightApplicationInfo},
	"DELETE /as/applications/:application_id/packages/associations/:f_port":                    {messages.RightApplicationInfo},
	"PUT /js/applications/:application_id/provision-devices":                                   {messages.RightApplicationInfo},
	"GET /ns/applications/:application_id/mac_settings_profiles":                               {messages.RightApplicationInfo},
	"POST /ns/applications/:application_id/mac_settings_profiles":                              {messages.RightApplicationInfo},
	"GET /ns/applications/:application_id/mac_settings_profiles/:profile_id":                   {messages.RightApplicationInfo},
	"PUT /ns/applications/:application_id/mac_settings_profiles/:profile_id":                   {messages.RightApplicationInfo},
	"DELETE /ns/applications/:application_id/mac_settings_profiles/:profile_id":                {messages.RightApplicationInfo},
	"POST /ns/applications/:application_id/relays":                                             {messages.RightApplicationInfo},
	"GET /ns/applications/:application_id/relays/:device_id":                                   {messages.RightApplicationInfo},
	"GET /ns/applications/:application_id/relays/:device_id/uplink-forwarding-rules/:index":    {messages.RightApplicationInfo},
	"PUT /ns/applications/:application_id/relays/:device_id":                                   {messages.RightApplicationInfo},
	"PUT /ns/applications/:application_id/relays/:device_id/uplink-forwarding-rules/:index":    {messages.RightApplicationInfo},
	"DELETE /ns/applications/:application_id/relays/:device_id":                                {messages.RightApplicationInfo},
	"DELETE /ns/applications/:application_id/relays/:device_id/uplink-forwarding-rules/:index": {messages.RightApplicationInfo},
	"GET /ns/applications/:application_id/relays/:device_id/uplink-forwarding-rules":           {messages.RightApplicationInfo},
	"POST /ns/applications/:application_id/relays/:device_id/uplink-forwarding-rules":          {messages.RightApplicationInfo},

	"GET /as/applications/:application_id/link":                 {messages.RightApplicationSettingsBasic},
	"PUT /as/applications/:application_id/link":                 {messages.RightApplicationSettingsBasic},
	"DELETE /as/applications/:application_id/link":              {messages.RightApplicationSettingsBasic},
	"GET /as/applications/:application_id/mqtt-connection-info": {messages.RightApplicationInfo},

	"GET /applications/:application_id/devices":                  {messages.RightApplicationDevicesRead},
	"POST /applications/:application_id/devices":                 {messages.RightApplicationDevicesWrite},
	"GET /applications/:application_id/devices/:device_id":       {messages.RightApplicationDevicesRead},
	"PUT /applications/:application_id/devices/:device_id":       {messages.RightApplicationDevicesWrite},
	"DELETE /applications/:application_id/devices/:device_id":    {messages.RightApplicationDevicesWrite},
	"PATCH /ns/applications/:application_id/devices/:device_id":  {messages.RightApplicationDevicesWrite},
	"POST /ns/applications/:application_id/devices":              {messages.RightApplicationDevicesWrite},
	"GET /ns/applications/:application_id/devices/:device_id":    {messages.RightApplicationDevicesRead},
	"PUT /ns/applications/:application_id/devices/:device_id":    {messages.RightApplicationDevicesWrite},
	"DELETE /ns/applications/:application_id/devices/:device_id": {messages.RightApplicationDevicesWrite},
	"POST /as/applications/:application_id/devices":              {messages.RightApplicationDevicesWrite},
	"GET /as/applications/:application_id/devices/:device_id":    {messages.RightApplicationDevicesRead},
	"PUT /as/applications/:application_id/devices/:device_id":    {messages.RightApplicationDevicesWrite},
	"DELETE /as/applications/:application_id/devices/:device_id": {messages.RightApplicationDevicesWrite},
	"POST /js/applications/:application_id/devices":              {messages.RightApplicationDevicesWrite},
	"GET /js/applications/:application_id/devices/:device_id":    {messages.RightApplicationDevicesRead},
	"PUT /js/applications/:application_id/devices/:device_id":    {messages.RightApplicationDevicesWrite},
	"DELETE /js/applications/:application_id/devices/:device_id": {messages.RightApplicationDevicesWrite},

	"GET /as/applications/:application_id/devices/:device_id/down":                 {messages.RightApplicationTrafficRead},
	"POST /as/applications/:application_id/devices/:device_id/down/push":           {messages.RightApplicationTrafficDownWrite},
	"POST /as/applications/:application_id/devices/:device_id/down/replace":        {messages.RightApplicationTrafficDownWrite},
	"POST /as/applications/:application_id/devices/:device_id/down/cancel":         {messages.RightApplicationTrafficDownWrite},
	"DELETE /as/applications/:application_id/devices/:device_id/down/:downlink_id": {messages.RightApplicationTrafficDownWrite},
	"POST /as/applications/:application_id/devices/:device_id/down/encode":         {messages.RightApplicationTrafficRead},
	"POST /as/applications/:application_id/devices/:device_id/down/decode":         {messages.RightApplicationTrafficRead},
	"POST /as/applications/:application_id/devices/:device_id/up/decode":           {messages.RightApplicationTrafficRead},
	"POST /as/applications/:application_id/devices/:device_id/up/simulate":         {messages.RightApplicationTrafficUpWrite},

	"GET /js/applications/:application_id/settings":                                              {messages.RightApplicationSettingsBasic},
	"POST /js/applications/:application_id/settings":                                             {messages.RightApplicationSettingsBasic},
	"PUT /js/applications/:application_id/settings":                                              {messages.RightApplicationSettingsBasic},
	"DELETE /js/applications/:application_id/settings":                                           {messages.RightApplicationSettingsBasic, messages.RightApplicationDevicesWriteKeys},
	"GET /as/webhooks/:application_id":                                                           {messages.RightApplicationTrafficRead},
	"POST /as/webhooks/:application_id":                                                          writeIntegrations,
	"GET /as/webhooks/:application_id/:webhook_id":                                               {messages.RightApplicationTrafficRead},
	"PUT /as/webhooks/:application_id/:webhook_id":                                               writeIntegrations,
	"DELETE /as/webhooks/:application_id/:webhook_id":                                            writeIntegrations,
	"POST /as/webhooks/:application_id/:webhook_id/signing-secret":                               writeIntegrations,
	"DELETE /as/webhooks/:application_id/:webhook_id/signing-secret/previous":                    writeIntegrations,
	"GET /as/webhooks/:application_id/:webhook_id/status":                                        {messages.RightApplicationTrafficRead},
	"GET /as/webhooks/:application_id/:webhook_id/deliveries":                                    {messages.RightApplicationTrafficRead},
	"POST /as/webhooks/:application_id/:webhook_id/replay":                                       writeIntegrations,
	"GET /as/webhooks/:application_id/:webhook_id/dead-letters":                                  {messages.RightApplicationTrafficRead},
	"POST /as/webhooks/:application_id/:webhook_id/dead-letters/redrive":                         writeIntegrations,
	"DELETE /as/webhooks/:application_id/:webhook_id/dead-letters":                               writeIntegrations,
	"DELETE /as/webhooks/:application_id/:webhook_id/dead-letters/:letter_id":                    writeIntegrations,
	"GET /as/pubsub/:application_id/:pub_sub_id/status":                                          {messages.RightApplicationTrafficRead},
	"GET /as/pubsub/:application_id/:pub_sub_id/deliveries":                                      {messages.RightApplicationTrafficRead},
	"POST /as/pubsub/:application_id/:pub_sub_id/replay":                                         writeIntegrations,
	"GET /as/pubsub/:application_id/:pub_sub_id/dead-letters":                                    {messages.RightApplicationTrafficRead},
	"POST /as/pubsub/:application_id/:pub_sub_id/dead-letters/redrive":                           writeIntegrations,
	"DELETE /as/pubsub/:application_id/:pub_sub_id/dead-letters":                                 writeIntegrations,
	"DELETE /as/pubsub/:application_id/:pub_sub_id/dead-letters/:letter_id":                      writeIntegrations,
	"GET /as/pubsub/:application_id":                                                             {messages.RightApplicationTrafficRead},
	"POST /as/pubsub/:application_id":                                                            writeIntegrations,
	"GET /as/pubsub/:application_id/:pub_sub_id":                                                 {messages.RightApplicationTrafficRead},
	"PUT /as/pubsub/:application_id/:pub_sub_id":                                                 writeIntegrations,
	"DELETE /as/pubsub/:application_id/:pub_sub_id":                                              writeIntegrations,
	"POST /as/applications/:application_id/webhooks/:webhook_id/devices/:device_id/down/push":    {messages.RightApplicationTrafficDownWrite},
	"POST /as/applications/:application_id/webhooks/:webhook_id/devices/:device_id/down/replace": {messages.RightApplicationTrafficDownWrite},

	"GET /as/applications/:application_id/link/stats":   {messages.RightApplicationInfo},
	"POST /applications/:application_id/devices/import": {messages.RightApplicationDevicesWrite},
	"GET /applications/:application_id/devices/export":  {messages.RightApplicationDevicesRead, messages.RightApplicationDevicesReadKeys},

	"GET /as/applications/:application_id/packages/storage":                                                                         {messages.RightApplicationTrafficRead},
	"GET /as/applications/:application_id/packages/storage/":                                                                        {messages.RightApplicationTrafficRead},
	"GET /as/applications/:application_id/packages/storage/:type":                                                                   {messages.RightApplicationTrafficRead},
	"GET /as/applications/:application_id/packages/storage/count":                                                                   {messages.RightApplicationTrafficRead},
	"GET /as/applications/:application_id/packages/storage/:type/count":                                                             {messages.RightApplicationTrafficRead},
	"GET /as/applications/:application_id/devices/:device_id/packages/storage":                                                      {messages.RightApplicationTrafficRead},
	"GET /as/applications/:application_id/devices/:device_id/packages/storage/":                                                     {messages.RightApplicationTrafficRead},
	"GET /as/applications/:application_id/devices/:device_id/packages/storage/:type":                                                {messages.RightApplicationTrafficRead},
	"GET /as/applications/:application_id/devices/:device_id/packages/storage/count":                                                {messages.RightApplicationTrafficRead},
	"GET /as/applications/:application_id/devices/:device_id/packages/storage/:type/count":                                          {messages.RightApplicationTrafficRead},
	"GET /dr/applications/:application_id/brands":                                                                                   {},
	"GET /dr/applications/:application_id/brands/:brand_id":                                                                         {},
	"GET /dr/applications/:application_id/vendors/:vendor_id/profiles/:vendor_profile_id/template":                                  {},
	"GET /dr/applications/:application_id/models":                                                                                   {},
	"GET /dr/applications/:application_id/brands/:brand_id/models":                                                                  {},
	"GET /dr/applications/:application_id/brands/:brand_id/models/:model_id":                                                        {},
	"GET /dr/applications/:application_id/brands/:brand_id/models/:model_id/:firmware_version/:band_id/template":                    {},
	"GET /dr/applications/:application_id/brands/:brand_id/models/:model_id/:firmware_version/:band_id/formatters/uplink/decoder":   {},
	"GET /dr/applications/:application_id/brands/:brand_id/models/:model_id/:firmware_version/:band_id/formatters/downlink/encoder": {},
	"GET /dr/applications/:application_id/brands/:brand_id/models/:model_id/:firmware_version/:band_id/formatters/downlink/decoder": {},
}

// A key that has all other rights is refused, with the name of the one it lacks; with all that are required it is let in.
func TestRoutesAskForTheRightsOfTTS(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.app("app1")
	single := slices.DeleteFunc(slices.Clone(applicationRights), func(r messages.Right) bool {
		return r == messages.RightApplicationAll || r == messages.RightApplicationLink
	})
	checked := 0
	for _, r := range routes() {
		if !strings.Contains(r.path, ":application_id") {
			continue
		}
		name := r.method + " " + strings.TrimPrefix(r.path, prefix)
		rights, ok := required[name]
		if !ok {
			t.Errorf("%s is not in the table of this test", name)
			continue
		}
		checked++
		path := params(strings.TrimPrefix(r.path, prefix), "app1")
		for _, right := range rights {
			others := slices.DeleteFunc(slices.Clone(single), func(x messages.Right) bool { return x == right })
			got := d.with(d.keyFor("app1", others...)).do(r.method, path, `{}`).fails(403, "insufficient_application_rights")
			if !strings.Contains(got.Body, string(right)) {
				t.Errorf("%s: %s is not named in %s", name, right, got.Body)
			}
		}
		if r.method == http.MethodDelete && (strings.HasSuffix(r.path, "/:application_id") || strings.HasSuffix(r.path, "/purge")) {
			continue // it would go
		}
		enough := rights
		if len(enough) == 0 {
			enough = []messages.Right{messages.RightApplicationInfo}
		}
		if got := d.with(d.keyFor("app1", enough...)).do(r.method, path, `{}`); got.Status == 401 || got.Status == 403 {
			t.Errorf("%s with %v: HTTP %d %s", name, rights, got.Status, got.Body)
		}
	}
	if checked != len(required) {
		t.Errorf("%d routes checked, the table has %d", checked, len(required))
	}
}

func TestAnotherApplicationIsNotFoundWhetherItExistsOrNot(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.app("app1")
	d.app("app2")
	other := d.with(d.keyFor("app1", messages.RightApplicationAll))
	for _, r := range routes() {
		if !strings.Contains(r.path, ":application_id") {
			continue
		}
		var bodies []string
		for _, app := range []string{"app2", "app3"} {
			got := other.do(r.method, params(strings.TrimPrefix(r.path, prefix), app), `{}`).fails(403, "no_application_rights")
			bodies = append(bodies, strings.ReplaceAll(got.err().Message, app, "app"))
		}
		if bodies[0] != bodies[1] {
			t.Errorf("%s %s tells existence: %q", r.method, r.path, bodies)
		}
	}
}

func TestServerLevelRoutesNeedAnAdminKey(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.app("app1")
	app := d.with(d.keyFor("app1", messages.RightApplicationAll))
	for _, r := range routes() {
		path := strings.TrimPrefix(r.path, prefix)
		if strings.Contains(path, ":application_id") || slices.Contains(openPaths, path) || slices.Contains(bodyPaths, path) || r.method == http.MethodGet && !strings.Contains(path, "gateway") && !strings.Contains(path, "api-keys") {
			continue
		}
		if path == "/edtc/convert" { // reads what it is sent, and nothing else
			continue
		}
		got := app.do(r.method, params(path, ""), `{}`).is(403)
		if e := got.err(); !strings.HasPrefix(e.Details[0].Name, "insufficient_") || e.Code != 7 {
			t.Errorf("%s %s: %s", r.method, path, got.Body)
		}
	}
	app.do("GET", "/applications?field_mask=name", nil).is(200).has("applications", d.do("GET", "/applications?field_mask=name", nil).at("applications"))
	d.with(d.keyFor("app1", messages.RightApplicationTrafficRead)).do("GET", "/applications", nil).is(200).has("applications", "[]")
}

func TestBearer(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	for header, status := range map[string]int{
		"Bearer " + adminKey: 200, "bearer " + adminKey: 200, "BEARER   " + adminKey + " ": 200,
		"": 401, "Bearer": 401, "Bearer ": 401, adminKey: 401, "Basic " + adminKey: 401, "Bearer NNSXS.A.B": 401, "Bearer " + strings.Repeat("x", 10000): 401,
	} {
		req := httptest.NewRequest("GET", prefix+"/auth_info", nil)
		req.Header.Set("Authorization", header)
		got := d.send(req)
		got.is(status)
		if status == 401 {
			got.fails(401, "unauthenticated")
			if got.Header.Get("WWW-Authenticate") == "" || got.err().Code != 16 {
				t.Errorf("%q: %v %s", header, got.Header, got.Body)
			}
		}
	}
	req := httptest.NewRequest("GET", prefix+"/auth_info?access_token="+adminKey, nil) // never in a URL
	d.send(req).fails(401, "unauthenticated")
}

func TestFailedAttemptsAreLimitedForEachAddress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDoor(t)
		from := func(address, key string) reply {
			req := httptest.NewRequest("GET", prefix+"/auth_info", nil)
			req.RemoteAddr = address + ":1000"
			req.Header.Set("Authorization", "Bearer "+key)
			req.Header.Set("X-Forwarded-For", "203.0.113.7") // is not believed
			return d.send(req)
		}
		for range attemptsBurst {
			from("192.0.2.1", "wrong").is(401)
		}
		if got := from("192.0.2.1", "wrong").fails(429, "too_many_attempts"); got.Header.Get("Retry-After") != "2" || got.err().Code != 8 {
			t.Errorf("%v %s", got.Header, got.Body)
		}
		from("192.0.2.1", adminKey).is(429) // might be a guess
		from("192.0.2.2", "wrong").is(401)  // another address
		from("192.0.2.2", adminKey).is(200)
		from("192.0.2.1", adminKey).is(200) // was valid before
		made, err := d.registry.CreateAPIKey(t.Context(), "", v3.APIKey{})
		if err != nil {
			t.Fatal(err)
		}
		from("192.0.2.1", made.Key).is(200) // nobody guesses that
		from("192.0.2.1", made.Key+"x").is(429)
		time.Sleep(attemptsPause)
		from("192.0.2.1", "wrong").is(401)

		for range attemptsBurst {
			from("[2001:db8::1]", "wrong").is(401)
		}
		from("[2001:db8::2]", "wrong").is(429) // the same host, as far as one can know
		from("[2001:db8:0:1::2]", "wrong").is(401)
		if n := testutil.ToFloat64(d.server.metrics.limited); n != 4 {
			t.Errorf("%v refusals counted", n)
		}
	})
}

func TestMemoryOfAttemptsIsBounded(t *testing.T) {
	t.Parallel()
	now := time.Now()
	a := newAttempts(func() time.Time { return now })
	address := func(i int) string { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}).String() }
	for i := range maxAddresses + 5 {
		a.failed(address(i))
	}
	if n := len(a.addresses); n > maxAddresses {
		t.Errorf("%d addresses are kept", n)
	}
	now = now.Add(time.Hour)
	for i := range maxAddresses {
		a.failed(address(i))
		a.succeeded(address(i))
	}
	a.succeeded("one more")
	if len(a.addresses) > maxAddresses || len(a.known) > maxKnownKeys {
		t.Errorf("%d addresses and %d keys are kept", len(a.addresses), len(a.known))
	}
}

func TestRegistryThatFailsToAuthorizeIsNotA401(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.server.cfg.Registry = brokenRegistry{d.server.cfg.Registry}
	d.do("GET", "/applications", nil).fails(503, "moving")
}

// TestSecretsStayOutOfLogs sends every kind of secret through requests that succeed, fail and meet a defect.
func TestSecretsStayOutOfLogs(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	d := newDoor(t, func(c *Config) { c.Registerer = reg })
	d.app("app1")
	d.do("POST", "/applications/app1/devices", otaa).is(200)
	d.do("POST", "/applications/app1/devices", abp).is(200)
	d.do("POST", "/applications/app1/devices", strings.Replace(abp, `"dev_addr"`, `"last_f_cnt_up":[],"dev_addr"`, 1)).is(400)
	const hook = `{"webhook":{"ids":{"webhook_id":"wh1"},"base_url":"https://u:hooksecret@example.com?token=hooksecret","headers":{"Authorization":"hooksecret"},"downlink_api_key":"hooksecret"}}`
	d.do("PUT", "/as/webhooks/app1/wh1", hook).is(200)
	d.do("PUT", "/as/webhooks/app1/wh1", strings.Replace(hook, `"headers":{`, `"headers":{"Host":"hooksecret",`, 1)).is(400)
	const pubsub = `{"pubsub":{"ids":{"pub_sub_id":"ps1"},"base_topic":"t","mqtt":{"server_url":"mqtt://example.com","password":"hooksecret"}}}`
	d.do("PUT", "/as/pubsub/app1/ps1", pubsub).is(200)
	d.do("PUT", "/as/pubsub/app1/ps1", strings.Replace(pubsub, "mqtt://", "foo://hooksecret@", 1)).is(400)
	made := d.do("POST", "/applications/app1/api-keys", `{"rights":["RIGHT_APPLICATION_INFO"]}`).is(200)
	key := strings.Trim(made.at("key"), `"`)
	d.with(key).do("GET", "/applications/app1", nil).is(200)
	d.with(key+"x").do("GET", "/applications/app1", nil).is(401)
	d.server.cfg.CheckWebhook = func(w v3.Webhook) error { panic("defect near " + w.DownlinkAPIKey) }
	d.do("PUT", "/as/webhooks/app1/wh1", hook).fails(500, "internal")

	text := d.log.String()
	metrics, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range metrics {
		text += m.String()
	}
	if !strings.Contains(text, "request answered") || !strings.Contains(text, "request met a defect") {
		t.Fatalf("the log is not what this test is about: %s", text)
	}
	for _, secret := range []string{appKey, nwkSKey, appSKey, "hooksecret", key, strings.Split(key, ".")[2], adminKey} {
		if strings.Contains(text, secret) {
			t.Errorf("%s is in log or metrics", secret)
		}
	}
	if n := testutil.ToFloat64(d.server.metrics.panics); n != 1 {
		t.Errorf("%v panics counted", n)
	}
}

func TestTheKeyMayComeInTheHeaderOfAGRPCGateway(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.app("app1")
	key := d.keyFor("app1", messages.RightApplicationInfo)
	ask := func(authorization, metadata string) reply {
		req := httptest.NewRequest("GET", prefix+"/applications/app1", nil)
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		req.Header.Set("Grpc-Metadata-Authorization", metadata)
		return d.send(req)
	}
	ask("", "Bearer "+key).is(200)
	ask("", key).fails(401, "unauthenticated")
	ask("Bearer nonsense", "Bearer "+key).is(401)
}
