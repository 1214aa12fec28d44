package rest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// publish puts an event into the log of an application, n seconds after noon.
func (d *door) publish(app, device string, n int, body string) {
	d.Helper()
	e := messages.Event{ID: fmt.Sprintf("%s.%s:%d", app, device, n), Device: messages.DeviceID{ApplicationID: app, DeviceID: device}, Time: noon.Add(time.Duration(n) * time.Second)}
	e.JSON = []byte(`{"end_device_ids":{"device_id":"` + device + `","application_ids":{"application_id":"` + app + `"},"dev_eui":"70B3D57ED0000001"},"correlation_ids":["as:up:` + fmt.Sprint(n) + `"],` + body + `}`)
	var up v3.ApplicationUp
	if err := json.Unmarshal(e.JSON, &up); err != nil {
		d.Fatal(err)
	}
	e.Type = up.Type()
	if _, err := d.store.Commit(d.Context(), messages.Commit{Device: e.Device, Events: []messages.Event{e}}); err != nil {
		d.Fatal(err)
	}
}

const uplinkJSON = `"uplink_message":{"f_port":1}`

// events is an open event stream.
type events struct {
	testing.TB
	lines chan string
	end   context.CancelFunc
}

// listen opens a stream with the door's key.
func (d *door) listen(t testing.TB, server *httptest.Server, body string, header ...string) *events {
	t.Helper()
	ctx, end := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(end)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+prefix+"/events", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+d.key)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	e := &events{TB: t, lines: make(chan string, 1000), end: end}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("HTTP %d", resp.StatusCode)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(e.lines)
		defer resp.Body.Close()
		for scanner := bufio.NewScanner(resp.Body); scanner.Scan(); {
			e.lines <- scanner.Text()
		}
	}()
	t.Cleanup(func() { end(); <-done })
	return e
}

// next gives the next event.
func (e *events) next() eventBody {
	e.Helper()
	for line := range e.lines {
		line = strings.TrimPrefix(line, "data: ")
		if line == "" || line == ":" {
			continue
		}
		var got struct{ Result eventBody }
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			e.Fatalf("%v in %s", err, line)
		}
		return got.Result
	}
	e.Fatal("the stream ended")
	return eventBody{}
}

// wants checks the names and devices of the next events.
func (e *events) wants(want ...string) {
	e.Helper()
	for _, w := range want {
		got := e.next()
		text := got.Name
		if len(got.Identifiers) == 1 && got.Identifiers[0].DeviceIDs != nil {
			text += " " + got.Identifiers[0].DeviceIDs.DeviceID
		}
		if text != w {
			e.Fatalf("got %s %+v, want %s", text, got, w)
		}
	}
}

func serve(t testing.TB, d *door) *httptest.Server {
	s := httptest.NewServer(d.server.echo)
	t.Cleanup(s.Close)
	return s
}

func TestEventsOfALiveApplication(t *testing.T) {
	t.Parallel()
	d := newFleetDoor(t)
	server := serve(t, d)
	for n := range 3 {
		d.publish("app1", "attic", n, uplinkJSON)
	}
	e := d.listen(t, server, `{"identifiers":[{"application_ids":{"application_id":"app1"}}],"tail":2}`)
	if start := e.next(); start.Name != "events.stream.start" {
		t.Fatalf("got %+v", start)
	}
	e.wants("as.up.data.forward attic", "as.up.data.forward attic") // of the past
	d.publish("app1", "attic", 3, `"uplink_message":{"f_port":1,"frm_payload":"AQ==","decode_error":"line 1"}`)
	d.publish("app2", "attic", 4, uplinkJSON) // of another application
	d.publish("app1", "cellar", 5, `"join_accept":{}`)
	e.wants("as.up.data.decode.fail attic")
	got := e.next()
	var data tree
	if err := json.Unmarshal(got.Data, &data); err != nil || data["@type"] != typeUp || data["uplink_message"] == nil {
		t.Errorf("data %s, %v", got.Data, err)
	}
	ids := got.Identifiers[0].DeviceIDs
	if got.Name != "as.up.data.forward" || got.UniqueID != "app1.attic:3" || got.CorrelationIDs[0] != "as:up:3" || !got.Time.Equal(noon.Add(3*time.Second)) || ids.DevEUI == nil || got.Origin != "node1" {
		t.Errorf("got %+v", got)
	}
	e.wants("as.up.join.forward cellar")
	d.do("PUT", "/applications/app1/devices/cellar", `{"end_device":{"name":"new"}}`).is(200)
	e.wants("as.end_device.update cellar")
	d.do("POST", "/applications/app1/devices", `{"end_device":{"ids":{"device_id":"hall"}}}`).is(200)
	e.wants("as.end_device.create hall")
	d.do("DELETE", "/applications/app1/devices/hall", nil).is(200)
	e.wants("as.end_device.delete hall")
	d.do("PUT", "/as/webhooks/app1/wh1", hook).is(200)
	e.wants("as.webhook.set")
	d.do("PUT", "/applications/app1", `{"application":{"name":"x"}}`).is(200)
	e.wants("application.update")
}

func TestEveryKindOfEventHasItsName(t *testing.T) {
	t.Parallel()
	for _, kind := range messages.EventTypes {
		if eventNames[kind] == "" {
			t.Errorf("%s has no name", kind)
		}
	}
}

func TestEventsAreFilteredByDeviceNameAndTime(t *testing.T) {
	t.Parallel()
	d := newFleetDoor(t)
	server := serve(t, d)
	for n := range 10 {
		d.publish("app1", []string{"attic", "cellar"}[n%2], n, uplinkJSON)
	}
	d.publish("app1", "attic", 10, `"downlink_ack":{}`)
	attic := `"identifiers":[{"device_ids":{"device_id":"attic","application_ids":{"application_id":"app1"}}}]`
	e := d.listen(t, server, `{`+attic+`,"after":"`+noon.Add(6*time.Second).Format(time.RFC3339)+`"}`, "Accept", "text/event-stream")
	e.wants("events.stream.start", "as.up.data.forward attic", "as.down.data.ack.forward attic")
	d.publish("app1", "cellar", 11, uplinkJSON)
	d.publish("app1", "attic", 12, uplinkJSON)
	e.wants("as.up.data.forward attic")

	e = d.listen(t, server, `{`+attic+`,"tail":3,"names":["as.down.data.ack.forward","/^as\\.up\\.join\\..*/"]}`)
	e.wants("events.stream.start", "as.down.data.ack.forward attic")
	d.publish("app1", "attic", 13, uplinkJSON)
	d.publish("app1", "attic", 14, `"join_accept":{}`)
	e.wants("as.up.join.forward attic")

	e = d.listen(t, server, `{`+attic+`,"tail":1000}`)
	e.wants("events.stream.start")
	for n := range 9 {
		if got := e.next(); n < 5 && !got.Time.Equal(noon.Add(time.Duration(2*n)*time.Second)) {
			t.Errorf("event %d is of %s", n, got.Time)
		}
	}
}

func TestEventsNeedTheRights(t *testing.T) {
	t.Parallel()
	d := newFleetDoor(t)
	server := serve(t, d)
	const app1 = `{"identifiers":[{"application_ids":{"application_id":"app1"}}]}`
	d.with(d.keyFor("app2", messages.RightApplicationAll)).do("POST", "/events", app1).fails(403, "no_application_rights")
	d.with(d.keyFor("app1", messages.RightApplicationDelete)).do("POST", "/events", app1).fails(403, "insufficient_application_rights")
	d.do("POST", "/events", `{"identifiers":[{"application_ids":{"application_id":"app9"}}]}`).fails(404, "application_not_found")
	d.do("POST", "/events", `{"identifiers":[{"application_ids":{"application_id":"App"}}]}`).fails(400, "invalid_id")
	d.do("POST", "/events", `{"identifiers":[{"gateway_ids":{"gateway_id":"gtw1"}}]}`).fails(400, "invalid_identifiers")
	d.do("POST", "/events", `{}`).fails(400, "no_identifiers")
	d.do("POST", "/events", strings.TrimSuffix(app1, "}")+`,"names":["/(/"]}`).fails(400, "invalid_names")

	traffic := d.with(d.keyFor("app1", messages.RightApplicationTrafficRead)).listen(t, server, app1)
	devices := d.with(d.keyFor("app1", messages.RightApplicationDevicesRead)).listen(t, server, app1)
	traffic.wants("events.stream.start")
	devices.wants("events.stream.start")
	d.publish("app1", "attic", 1, uplinkJSON)
	d.do("PUT", "/applications/app1/devices/cellar", `{"end_device":{"name":"new"}}`).is(200)
	d.publish("app1", "attic", 2, `"join_accept":{}`)
	traffic.wants("as.up.data.forward attic", "as.up.join.forward attic")
	devices.wants("as.end_device.update cellar")
}

func TestFailedLoginsAreEventsOfTheApplication(t *testing.T) {
	t.Parallel()
	d := newFleetDoor(t)
	var watchers sync.Map
	d.server.cfg.WatchLogins = func(fn func(string, error)) func() {
		watchers.Store(&fn, fn)
		return func() { watchers.Delete(&fn) }
	}
	tell := func(app string) {
		watchers.Range(func(_, fn any) bool {
			fn.(func(string, error))(app, messages.Errorf(messages.CodeUnauthenticated, "mqtt_connect", "MQTT client %q from 192.0.2.1: unknown API key", "c"))
			return true
		})
	}
	server := serve(t, d)
	const app1 = `{"identifiers":[{"application_ids":{"application_id":"app1"}}]}`
	mine := d.listen(t, server, app1)
	device := d.listen(t, server, `{"identifiers":[{"device_ids":{"device_id":"attic","application_ids":{"application_id":"app1"}}}]}`)
	blind := d.with(d.keyFor("app1", messages.RightApplicationInfo)).listen(t, server, app1)
	for _, e := range []*events{mine, device, blind} {
		e.wants("events.stream.start")
	}
	tell("app2")
	tell("app1")
	got := mine.next()
	if got.Name != "as.mqtt.connect.fail" || got.Identifiers[0].ApplicationIDs.ApplicationID != "app1" || !strings.Contains(string(got.Data), `ErrorDetails","namespace"`) || !strings.Contains(string(got.Data), "192.0.2.1") {
		t.Errorf("got %+v %s", got, got.Data)
	}
	d.publish("app1", "attic", 1, uplinkJSON)
	device.wants("as.up.data.forward attic")
	d.do("PUT", "/applications/app1", `{"application":{"name":"new"}}`).is(200)
	blind.wants("application.update")
	for range 10 * loginBuffer { // a crowd of strangers cuts nobody off
		tell("app1")
	}
	for got.Name != "as.up.data.forward" {
		got = mine.next()
	}
}

func TestAStreamEndsWithItsKeyOrTheServer(t *testing.T) {
	t.Parallel()
	d := newFleetDoor(t)
	d.server.heartbeat = 10 * time.Millisecond
	server := serve(t, d)
	const app1 = `{"identifiers":[{"application_ids":{"application_id":"app1"}}]}`
	key, err := d.registry.CreateAPIKey(t.Context(), "app1", v3.APIKey{Rights: []messages.Right{messages.RightApplicationTrafficRead}})
	if err != nil {
		t.Fatal(err)
	}
	mine, other := d.with(key.Key).listen(t, server, app1), d.listen(t, server, app1)
	mine.wants("events.stream.start")
	other.wants("events.stream.start")
	d.do("DELETE", "/applications/app1/api-keys/"+key.ID, nil).is(200)
	for range mine.lines { // until it ends
	}
	d.publish("app1", "attic", 1, uplinkJSON)
	other.wants("as.up.data.forward attic")
	d.server.endStreams()
	for range other.lines {
	}
	if n := d.server.streams.Load(); n > 1 { // the last one may be on its way out
		t.Errorf("%d streams are counted", n)
	}
}

func TestAClientThatIsTooFarBehindIsCutOff(t *testing.T) {
	t.Parallel()
	d := newFleetDoor(t)
	st := &stream{server: d.server, notices: newNoticeQueue(1), subjects: map[string]subject{"app1": {whole: true}}}
	var cause error
	for range 3 {
		st.note(messages.Change{Kind: messages.KindApplication, ID: "app1"}, func(err error) { cause = err })
	}
	if cause != errSlow { //nolint:errorlint // it is this very one
		t.Errorf("the cause is %v", cause)
	}
	st.note(messages.Change{Kind: messages.KindAPIKey, ID: "ABC"}, func(error) { t.Error("a key is no event") })
}

// An import of devices makes many changes at once. A client that reads is told of all of them.
func TestManyChangesAtOnceAreAllShown(t *testing.T) {
	t.Parallel()
	d := newFleetDoor(t)
	watched := make(chan func(messages.Change), 1)
	d.server.cfg.Watch = func(fn func(messages.Change)) func() { watched <- fn; return func() {} }
	stream := d.listen(t, serve(t, d), `{"identifiers":[{"application_ids":{"application_id":"app1"}}]}`)
	stream.wants("events.stream.start")
	note := <-watched
	const many = 3*noticeBlock + 1
	for n := range many {
		note(messages.Change{Kind: messages.KindDevice, ID: fmt.Sprintf("app1.dev-%d", n), Deleted: true})
	}
	for n := range many {
		stream.wants(fmt.Sprintf("as.end_device.delete dev-%d", n))
	}
}

func TestAStreamGoesOnWithAKeyInTheHeaderOfAGRPCGateway(t *testing.T) {
	t.Parallel()
	d := newFleetDoor(t)
	d.server.heartbeat = 10 * time.Millisecond
	server, key := serve(t, d), d.keyFor("app1", messages.RightApplicationTrafficRead)
	stream := d.with("").listen(t, server, `{"identifiers":[{"application_ids":{"application_id":"app1"}}]}`, "Authorization", "", "Grpc-Metadata-Authorization", "Bearer "+key, "Accept", "text/event-stream")
	for beats := 0; beats < 3; {
		line, open := <-stream.lines
		if !open {
			t.Fatal("the stream ended when its key was checked")
		}
		if line == ":" {
			beats++
		}
	}
}

func TestRelatedEvents(t *testing.T) {
	t.Parallel()
	d := newFleetDoor(t)
	for n := range 600 {
		d.publish("app1", "attic", n, uplinkJSON)
	}
	d.publish("app2", "attic", 7, uplinkJSON)
	var got eventsBody
	if err := json.Unmarshal([]byte(d.do("GET", "/events/related?correlation_id=as:up:7", nil).is(200).Body), &got); err != nil || len(got.Events) != 2 {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := json.Unmarshal([]byte(d.with(d.keyFor("app1", messages.RightApplicationTrafficRead)).do("GET", "/events/related?correlation_id=as:up:7", nil).is(200).Body), &got); err != nil ||
		len(got.Events) != 1 || got.Events[0].UniqueID != "app1.attic:7" {
		t.Errorf("got %+v, %v", got, err)
	}
	d.with(d.keyFor("app1", messages.RightApplicationInfo)).do("GET", "/events/related?correlation_id=as:up:7", nil).is(200).has("events", "[]")
	d.do("GET", "/events/related", nil).fails(400, "no_correlation_id")
}

// The log of a cluster has gaps, since applications share a stream.
func TestThePastIsFoundInALogWithGaps(t *testing.T) {
	t.Parallel()
	var log gappyLog
	for n := range 3000 {
		seq := uint64(1 + n)
		if n >= 1000 {
			seq = uint64(100_000 + 997*n)
		}
		log = append(log, messages.LogEntry{Seq: seq, Event: messages.Event{Time: noon.Add(time.Duration(n) * time.Second)}})
	}
	s := &Server{cfg: Config{EventLog: log}}
	last := log[len(log)-1].Seq
	all := func(messages.LogEntry) bool { return true }
	for _, limit := range []int{1, 10, 1000, 2500} {
		got, err := s.past(t.Context(), "app1", last, limit, 10_000, time.Time{}, all)
		if err != nil || len(got) != limit || got[0].Seq != log[len(log)-limit].Seq || got[limit-1].Seq != last {
			t.Errorf("limit %d: got %d, %v", limit, len(got), err)
		}
	}
	got, err := s.past(t.Context(), "app1", last, 5000, 10_000, noon.Add(900*time.Second), all)
	if err != nil || len(got) != 2100 {
		t.Errorf("since: got %d, %v", len(got), err)
	}
}

type gappyLog []messages.LogEntry

func (g gappyLog) ReadLog(_ context.Context, _ string, after uint64, limit int) ([]messages.LogEntry, error) {
	var out []messages.LogEntry
	for _, e := range g {
		if e.Seq > after && len(out) < limit {
			out = append(out, e)
		}
	}
	return out, nil
}

func (g gappyLog) LogRange(context.Context, string) (first, last uint64, err error) {
	return g[0].Seq, g[len(g)-1].Seq, nil
}

func (gappyLog) WatchLog(string) (<-chan struct{}, func()) { return nil, func() {} }
