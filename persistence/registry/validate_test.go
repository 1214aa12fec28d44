package registry

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// wantRefusal checks the name of a refusal, and that it says what to do in few words.
func wantRefusal(t *testing.T, what string, err error, name string) {
	t.Helper()
	if name == "" {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		return
	}
	wantError(t, err, name)
	if err == nil {
		t.Errorf("%s is accepted", what)
	} else if messages.CodeOf(err) != messages.CodeInvalid || len(err.Error()) > 400 {
		t.Errorf("%s: code %v, %d bytes: %v", what, messages.CodeOf(err), len(err.Error()), err)
	}
}

func TestIDsAreChecked(t *testing.T) {
	ctx := t.Context()
	r, _ := withApplication(t)
	for _, id := range []string{"", "ab", "Ab-cd", "-abc", "abc-", "a--c", "a.b", "a_b_c", "über", "abc\n", strings.Repeat("a", 37), "a/b/c"} {
		for _, err := range []error{
			second(r.CreateApplication(ctx, newApplication(id))), second(r.CreateDevice(ctx, newDevice("my-app", id, 1))), second(r.CreateDevice(ctx, newDevice(id, "dev-1", 1))),
			second(r.CreateGateway(ctx, newGateway(id, 1))), second(r.SetWebhook(ctx, "my-app", id, func(*v3.Webhook) error { return nil })),
			second(r.SetPubSub(ctx, "my-app", id, func(*v3.PubSub) error { return nil })),
		} {
			wantRefusal(t, fmt.Sprintf("id %q", id), err, "invalid_id")
		}
	}
	wantRefusal(t, "another id on update", second(r.UpdateApplication(ctx, "my-app", func(a *v3.Application) error { a.IDs.ApplicationID = "other"; return nil })), "invalid_application_id")
}

func TestDevicesAreChecked(t *testing.T) {
	key := func(k v3.KeyEnvelope) *v3.RootKeys { return &v3.RootKeys{AppKey: &k} }
	zero, good := v3.HexKey{}, v3.HexKey{1}
	many := func(n int) map[string]string {
		m := map[string]string{}
		for i := range n {
			m[fmt.Sprintf("key-%d", i)] = "x"
		}
		return m
	}
	for name, c := range map[string]struct {
		change func(*v3.EndDevice)
		want   string
	}{
		"as it is":               {func(*v3.EndDevice) {}, ""},
		"JoinEUI 0":              {func(d *v3.EndDevice) { d.IDs.JoinEUI = eui(0) }, ""},
		"DevEUI 0":               {func(d *v3.EndDevice) { d.IDs.DevEUI = eui(0) }, "invalid_dev_eui"},
		"joins without DevEUI":   {func(d *v3.EndDevice) { d.IDs.DevEUI = nil }, "invalid_dev_eui"},
		"joins without JoinEUI":  {func(d *v3.EndDevice) { d.IDs.JoinEUI = nil }, "invalid_join_eui"},
		"ABP without EUIs":       {func(d *v3.EndDevice) { d.SupportsJoin, d.IDs.JoinEUI, d.IDs.DevEUI = false, nil, nil }, ""},
		"name of 50 letters":     {func(d *v3.EndDevice) { d.Name = strings.Repeat("ü", 50) }, ""},
		"name of 51":             {func(d *v3.EndDevice) { d.Name = strings.Repeat("ü", 51) }, "invalid_name"},
		"description of 2001":    {func(d *v3.EndDevice) { d.Description = strings.Repeat("x", 2001) }, "invalid_description"},
		"10 attributes":          {func(d *v3.EndDevice) { d.Attributes = many(10) }, ""},
		"11 attributes":          {func(d *v3.EndDevice) { d.Attributes = many(11) }, "invalid_attributes"},
		"attribute with a space": {func(d *v3.EndDevice) { d.Attributes = map[string]string{"a b c": ""} }, "invalid_attributes"},
		"attribute of 201":       {func(d *v3.EndDevice) { d.Attributes = map[string]string{"key": strings.Repeat("x", 201)} }, "invalid_attributes"},
		"NetID":                  {func(d *v3.EndDevice) { d.NetID = "000013" }, ""},
		"NetID of 5 digits":      {func(d *v3.EndDevice) { d.NetID = "00013" }, "invalid_net_id"},
		"NetID without hex":      {func(d *v3.EndDevice) { d.NetID = "00001g" }, "invalid_net_id"},
		"unknown frequency plan": {func(d *v3.EndDevice) { d.FrequencyPlanID = "EU868" }, "invalid_frequency_plan_id"},
		"sub-band 9":             {func(d *v3.EndDevice) { d.FrequencyPlanID = "US_902_928_FSB_9" }, "invalid_frequency_plan_id"},
		"no version yet":         {func(d *v3.EndDevice) { d.LoRaWANVersion, d.LoRaWANPHYVersion = "", "" }, ""},
		"LoRaWAN 1.1":            {func(d *v3.EndDevice) { d.LoRaWANVersion = "MAC_V1_1" }, "invalid_lorawan_version"},
		"LoRaWAN 2":              {func(d *v3.EndDevice) { d.LoRaWANVersion = strings.Repeat("2", 1000) }, "invalid_lorawan_version"},
		"unknown parameters":     {func(d *v3.EndDevice) { d.LoRaWANPHYVersion = "RP003" }, "invalid_lorawan_phy_version"},
		"location":               {func(d *v3.EndDevice) { d.Locations = map[string]v3.Location{"user": {Latitude: 90, Longitude: -180}} }, ""},
		"location beyond":        {func(d *v3.EndDevice) { d.Locations = map[string]v3.Location{"user": {Latitude: 90.1}} }, "invalid_locations"},
		"location's name":        {func(d *v3.EndDevice) { d.Locations = map[string]v3.Location{"": {}} }, "invalid_locations"},
		"AppKey":                 {func(d *v3.EndDevice) { d.RootKeys = key(v3.KeyEnvelope{Key: &good}) }, ""},
		"AppKey of zeros":        {func(d *v3.EndDevice) { d.RootKeys = key(v3.KeyEnvelope{Key: &zero}) }, "invalid_app_key"},
		"wrapped AppKey":         {func(d *v3.EndDevice) { d.RootKeys = key(v3.KeyEnvelope{EncryptedKey: v3.Bytes{1}}) }, "invalid_app_key"},
		"unknown formatter":      {func(d *v3.EndDevice) { d.Formatters = &v3.Formatters{UpFormatter: "FORMATTER_PERL"} }, "invalid_up_formatter"},
		"formatter of gRPC":      {func(d *v3.EndDevice) { d.Formatters = &v3.Formatters{DownFormatter: "FORMATTER_GRPC_SERVICE"} }, "invalid_down_formatter"},
		"Lua": {func(d *v3.EndDevice) {
			d.Formatters = &v3.Formatters{UpFormatter: messages.FormatterLua, UpFormatterParameter: "x"}
		}, ""},
		"script too large": {func(d *v3.EndDevice) {
			d.Formatters = &v3.Formatters{UpFormatterParameter: strings.Repeat("x", messages.MaxFormatterSource+1)}
		}, "formatter_script_too_large"},
		"RX1 delay": {func(d *v3.EndDevice) {
			d.MACSettings = &v3.MACSettings{RX1Delay: json.RawMessage(`{"value":"RX_DELAY_5"}`)}
		}, ""},
		"RX1 delay of 16 s":     {func(d *v3.EndDevice) { d.MACSettings = &v3.MACSettings{RX1Delay: json.RawMessage(`16`)} }, "invalid_mac_settings"},
		"RX2 data rate 16":      {func(d *v3.EndDevice) { d.MACSettings = &v3.MACSettings{RX2DataRateIndex: json.RawMessage(`16`)} }, "invalid_mac_settings"},
		"RX1 offset 8":          {func(d *v3.EndDevice) { d.MACSettings = &v3.MACSettings{RX1DataRateOffset: json.RawMessage(`8`)} }, "invalid_mac_settings"},
		"RX2 frequency of 1 Hz": {func(d *v3.EndDevice) { d.MACSettings = &v3.MACSettings{RX2Frequency: 1} }, "invalid_mac_settings"},
		"settings kept as given": {func(d *v3.EndDevice) {
			d.MACSettings = &v3.MACSettings{Other: map[string]json.RawMessage{"adr": json.RawMessage(`{"dynamic":{}}`)}}
		}, ""},
		"more than 2 MiB in all":  {func(d *v3.EndDevice) { d.Picture = json.RawMessage(`"` + strings.Repeat("x", maxDocument) + `"`) }, "too_large"},
		"what is no JSON":         {func(d *v3.EndDevice) { d.Picture = json.RawMessage(`{`) }, "invalid_body"},
		"serial number of 37":     {func(d *v3.EndDevice) { d.SerialNumber = strings.Repeat("x", 37) }, "invalid_serial_number"},
		"brand of 37":             {func(d *v3.EndDevice) { d.VersionIDs = &v3.VersionIDs{BrandID: strings.Repeat("x", 37)} }, "invalid_brand_id"},
		"network server address":  {func(d *v3.EndDevice) { d.NetworkServerAddress = strings.Repeat("x", 257) }, "invalid_network_server_address"},
		"key in a foreign letter": {func(d *v3.EndDevice) { d.Attributes = map[string]string{"schlüssel": ""} }, "invalid_attributes"},
	} {
		r, _ := withApplication(t)
		d := newDevice("my-app", "dev-1", 7)
		c.change(&d)
		_, err := r.CreateDevice(t.Context(), d)
		wantRefusal(t, name, err, c.want)
		if err != nil && strings.Contains(err.Error(), "xxxxxxxxxx") {
			t.Errorf("%s: the refusal repeats what was sent: %v", name, err)
		}
	}
}

func TestVersionsHaveOneName(t *testing.T) {
	r, _ := withApplication(t)
	for in, want := range map[string]string{"1.0": "MAC_V1_0", "1.0.2": "MAC_V1_0_2", "MAC_V1_0_4": "MAC_V1_0_4"} {
		d := newDevice("my-app", "dev-"+strings.ReplaceAll(strings.ToLower(strings.ReplaceAll(in, "_", "-")), ".", "-"), 7)
		d.LoRaWANVersion, d.LoRaWANPHYVersion = in, "RP001_V1_0_3_REV_A"
		got, err := r.CreateDevice(t.Context(), d)
		if err != nil || got.LoRaWANVersion != want || got.LoRaWANPHYVersion != "PHY_V1_0_3_REV_A" {
			t.Errorf("%s: got %s and %s, %v", in, got.LoRaWANVersion, got.LoRaWANPHYVersion, err)
		}
		if err := r.DeleteDevice(t.Context(), got.DeviceID()); err != nil {
			t.Error(err)
		}
	}
}

func TestRadioGatewaysAreChecked(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*v3.Gateway)
		want   string
	}{
		"as it is":       {func(*v3.Gateway) {}, ""},
		"no EUI":         {func(g *v3.Gateway) { g.IDs.EUI = nil }, ""},
		"EUI 0":          {func(g *v3.Gateway) { g.IDs.EUI = eui(0) }, "invalid_eui"},
		"9 antennas":     {func(g *v3.Gateway) { g.Antennas = make([]v3.GatewayAntenna, 9) }, "invalid_antennas"},
		"9 plans":        {func(g *v3.Gateway) { g.FrequencyPlanIDs = make([]string, 9) }, "invalid_frequency_plan_ids"},
		"unknown plan":   {func(g *v3.Gateway) { g.FrequencyPlanIDs = []string{"MARS"} }, "invalid_frequency_plan_id"},
		"off the Earth":  {func(g *v3.Gateway) { g.Antennas = []v3.GatewayAntenna{{Location: &v3.Location{Longitude: 181}}} }, "invalid_location"},
		"long name":      {func(g *v3.Gateway) { g.Name = strings.Repeat("x", 51) }, "invalid_name"},
		"bad attributes": {func(g *v3.Gateway) { g.Attributes = map[string]string{"A": ""} }, "invalid_attributes"},
	} {
		r, _ := withApplication(t)
		g := newGateway("gtw", 7)
		c.change(&g)
		wantRefusal(t, name, second(r.CreateGateway(t.Context(), g)), c.want)
	}
}

func TestWebhooksAreChecked(t *testing.T) {
	headers := func(kv ...string) func(*v3.Webhook) {
		return func(w *v3.Webhook) {
			w.Headers = map[string]string{}
			for i := 0; i < len(kv); i += 2 {
				w.Headers[kv[i]] = kv[i+1]
			}
		}
	}
	base := func(url string) func(*v3.Webhook) { return func(w *v3.Webhook) { w.BaseURL = url } }
	for name, c := range map[string]struct {
		change func(*v3.Webhook)
		want   string
	}{
		"as it is":           {func(*v3.Webhook) {}, ""},
		"template":           {base("https://example.com{/appID}/x{?devID,devEUI}"), ""},
		"variable in host":   {base("https://{devID}.example.com/"), ""},
		"port and path":      {base("http://[2001:db8::1]:8080/a%20b"), ""},
		"no URL":             {base(""), "invalid_base_url"},
		"other scheme":       {base("ftp://secret:word@example.com"), "invalid_base_url"},
		"file":               {base("file:///etc/passwd"), "invalid_base_url"},
		"no host":            {base("https:///path"), "invalid_base_url"},
		"no scheme":          {base("example.com"), "invalid_base_url"},
		"open brace":         {base("https://example.com/{devID"), "invalid_base_url"},
		"line break":         {base("https://example.com/\r\nHost: x"), "invalid_base_url"},
		"2049 characters":    {base("https://example.com/" + strings.Repeat("x", 2049)), "invalid_base_url"},
		"header":             {headers("Authorization", "Bearer secret-word"), ""},
		"host header":        {headers("host", "secret-word"), "invalid_headers"},
		"length header":      {headers("Content-Length", "5"), "invalid_headers"},
		"line in header":     {headers("X-A", "secret-word\r\nX-B: 1"), "invalid_headers"},
		"space in name":      {headers("X A", "secret-word"), "invalid_headers"},
		"name empty":         {headers("", "secret-word"), "invalid_headers"},
		"twice":              {headers("X-A", "1", "x-a", "2"), "invalid_headers"},
		"header of 4097":     {headers("X-A", strings.Repeat("x", 4097)), "invalid_headers"},
		"yaml":               {func(w *v3.Webhook) { w.Format = "yaml" }, "invalid_format"},
		"path":               {func(w *v3.Webhook) { w.UplinkMessage = &v3.MessagePath{Path: "/up{?devID}"} }, ""},
		"path of 65":         {func(w *v3.Webhook) { w.JoinAccept = &v3.MessagePath{Path: strings.Repeat("x", 65)} }, "invalid_path"},
		"path with a brace":  {func(w *v3.Webhook) { w.DownlinkAck = &v3.MessagePath{Path: "/{"} }, "invalid_path"},
		"downlink key":       {func(w *v3.Webhook) { w.DownlinkAPIKey = "NNSXS.secret-word\n" }, "invalid_downlink_api_key"},
		"downlink key's end": {func(w *v3.Webhook) { w.DownlinkAPIKey = strings.Repeat("x", 129) }, "invalid_downlink_api_key"},
	} {
		r, _ := withApplication(t)
		_, err := r.SetWebhook(t.Context(), "my-app", "my-hook", func(w *v3.Webhook) error {
			w.BaseURL = "https://example.com/lorawan"
			c.change(w)
			return nil
		})
		wantRefusal(t, name, err, c.want)
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the refusal tells a secret: %v", name, err)
		}
	}
}

func TestPubSubsAreChecked(t *testing.T) {
	nats := func(url string) func(*v3.PubSub) {
		return func(p *v3.PubSub) { p.NATS = &v3.NATSProvider{ServerURL: url} }
	}
	mqtt := func(change func(*v3.MQTTProvider)) func(*v3.PubSub) {
		return func(p *v3.PubSub) {
			p.NATS, p.MQTT = nil, &v3.MQTTProvider{ServerURL: "mqtts://example.com"}
			change(p.MQTT)
		}
	}
	topic := func(base, up string) func(*v3.PubSub) {
		return func(p *v3.PubSub) { p.BaseTopic, p.UplinkMessage = base, &v3.MessageTopic{Topic: up} }
	}
	both := func(changes ...func(*v3.PubSub)) func(*v3.PubSub) {
		return func(p *v3.PubSub) {
			for _, c := range changes {
				c(p)
			}
		}
	}
	same := mqtt(func(*v3.MQTTProvider) {})
	for name, c := range map[string]struct {
		change func(*v3.PubSub)
		want   string
	}{
		"NATS":                 {func(*v3.PubSub) {}, ""},
		"NATS over TLS":        {nats("tls://user:word@example.com:4222"), ""},
		"MQTT":                 {same, ""},
		"MQTT over WebSocket":  {mqtt(func(m *v3.MQTTProvider) { m.ServerURL = "wss://example.com/mqtt" }), ""},
		"no provider":          {func(p *v3.PubSub) { p.NATS = nil }, "invalid_provider"},
		"two providers":        {func(p *v3.PubSub) { p.MQTT = &v3.MQTTProvider{ServerURL: "mqtt://example.com"} }, "invalid_provider"},
		"NATS without URL":     {nats(""), "invalid_server_url"},
		"NATS by HTTP":         {nats("http://user:secret-word@example.com"), "invalid_server_url"},
		"NATS without host":    {nats("nats://"), "invalid_server_url"},
		"NATS, URL with space": {nats("nats://secret-word@exa mple.com"), "invalid_server_url"},
		"MQTT by HTTP":         {mqtt(func(m *v3.MQTTProvider) { m.ServerURL = "http://example.com" }), "invalid_server_url"},
		"QoS":                  {mqtt(func(m *v3.MQTTProvider) { m.PublishQoS = "SOMETIMES" }), "invalid_publish_qos"},
		"client id of 24":      {mqtt(func(m *v3.MQTTProvider) { m.ClientID = strings.Repeat("x", 24) }), "invalid_client_id"},
		"password of 101":      {mqtt(func(m *v3.MQTTProvider) { m.Password = strings.Repeat("secret-word", 20) }), "invalid_password"},
		"CA is no PEM":         {mqtt(func(m *v3.MQTTProvider) { m.TLSCA = []byte("hello") }), "invalid_tls_ca"},
		"CA is a key": {mqtt(func(m *v3.MQTTProvider) {
			m.TLSCA = []byte("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
		}), "invalid_tls_ca"},
		"key alone":            {mqtt(func(m *v3.MQTTProvider) { m.TLSClientKey = []byte("secret-word") }), "invalid_tls_client_key"},
		"header":               {mqtt(func(m *v3.MQTTProvider) { m.Headers = map[string]string{"a b": ""} }), "invalid_headers"},
		"subject":              {topic("lorawan", "up.v3"), ""},
		"subject with *":       {topic("lorawan.*", "up"), "invalid_base_topic"},
		"subject with >":       {topic("lorawan", ">"), "invalid_topic"},
		"empty token":          {topic("lorawan", "a..b"), "invalid_topic"},
		"subject with a space": {topic("lorawan", "a b"), "invalid_topic"},
		"no topic":             {topic("", ""), "invalid_topic"},
		"topic alone":          {topic("", "up"), ""},
		"MQTT topic":           {both(same, topic("lorawan/x", "up *")), ""},
		"MQTT filter":          {both(same, topic("lorawan/+", "up")), "invalid_base_topic"},
		"MQTT multi-level":     {both(same, topic("lorawan", "#")), "invalid_topic"},
		"MQTT control":         {both(same, topic("lorawan", "a\x00")), "invalid_topic"},
		"topic of 101":         {topic("lorawan", strings.Repeat("x", 101)), "invalid_topic"},
		"downlink topic":       {func(p *v3.PubSub) { p.DownlinkPush = &v3.MessageTopic{Topic: "a.*"} }, "invalid_topic"},
		"protobuf":             {func(p *v3.PubSub) { p.Format = "protobuf" }, "invalid_format"},
	} {
		r, _ := withApplication(t)
		_, err := r.SetPubSub(t.Context(), "my-app", "my-pubsub", func(p *v3.PubSub) error {
			p.NATS, p.BaseTopic = &v3.NATSProvider{ServerURL: "nats://example.com"}, "lorawan"
			c.change(p)
			return nil
		})
		wantRefusal(t, name, err, c.want)
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the refusal tells a secret: %v", name, err)
		}
	}
}
