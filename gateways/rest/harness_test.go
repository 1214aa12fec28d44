package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
	"lorikeet/persistence/memory"
	"lorikeet/persistence/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const adminKey = "admin-key-of-the-tests"

// fakeDevices keeps sessions as device actors do, without a radio.
type fakeDevices struct {
	registry *registry.Registry

	mu       sync.Mutex
	states   map[messages.DeviceID]v3.EndDevice
	queues   map[messages.DeviceID][]messages.Downlink
	ups      []v3.ApplicationUp
	calls    []string
	made     int              // ids of downlinks
	failNext map[string]error // by method
}

func (f *fakeDevices) enter(method string, id messages.DeviceID) (leave func(), err error) {
	f.mu.Lock()
	f.calls = append(f.calls, method+" "+id.UID())
	err = f.failNext[method]
	delete(f.failNext, method)
	return f.mu.Unlock, err
}

// ready is what an actor needs to know of the registry.
func (f *fakeDevices) ready(id messages.DeviceID) error {
	dev, err := f.registry.Device(context.Background(), id)
	if err == nil && (dev.FrequencyPlanID == "" || dev.LoRaWANVersion == "") {
		err = messages.Errorf(messages.CodePrecondition, "device_settings", "device %s has no frequency plan or version", id)
	}
	return err
}

func (f *fakeDevices) push(method string, id messages.DeviceID, items []messages.Downlink, replace bool) error {
	leave, err := f.enter(method, id)
	defer leave()
	if err != nil {
		return err
	}
	if err := f.ready(id); err != nil {
		return err
	}
	if replace {
		f.queues[id] = nil
	}
	f.queues[id] = append(f.queues[id], items...)
	return nil
}

func (f *fakeDevices) PushDownlinks(_ context.Context, id messages.DeviceID, items []messages.Downlink) error {
	return f.push("push", id, items, false)
}

func (f *fakeDevices) ReplaceDownlinks(_ context.Context, id messages.DeviceID, items []messages.Downlink) error {
	return f.push("replace", id, items, true)
}

func (f *fakeDevices) QueueDownlinks(_ context.Context, id messages.DeviceID, items []messages.Downlink, replace bool) ([]messages.Downlink, error) {
	method := "push"
	if replace {
		method = "replace"
	}
	items = slices.Clone(items)
	for i := range items {
		f.made++
		items[i].ID = "ITEM" + strconv.Itoa(f.made) // ids of the server are ULIDs, in upper case
	}
	return items, f.push(method, id, items, replace)
}

func (f *fakeDevices) CancelDownlinks(_ context.Context, id messages.DeviceID, ids []string) (map[string]*messages.Error, error) {
	leave, err := f.enter("cancel", id)
	defer leave()
	if err = errors.Join(err, f.ready(id)); err != nil {
		return nil, err
	}
	refused := map[string]*messages.Error{}
	for n, item := range ids {
		if slices.Contains(ids[:n], item) {
			continue
		}
		i := slices.IndexFunc(f.queues[id], func(q messages.Downlink) bool { return q.ID == item })
		if i < 0 {
			refused[item] = messages.NotFound("downlink_not_found", "not there")
			continue
		}
		f.queues[id] = slices.Delete(f.queues[id], i, i+1)
	}
	return refused, nil
}

func (f *fakeDevices) ListDownlinks(_ context.Context, id messages.DeviceID) ([]messages.Downlink, error) {
	leave, err := f.enter("list", id)
	defer leave()
	return f.queues[id], errors.Join(err, f.ready(id))
}

func (f *fakeDevices) DeviceState(_ context.Context, id messages.DeviceID) (v3.EndDevice, error) {
	leave, err := f.enter("state", id)
	defer leave()
	if err == nil {
		err = f.ready(id)
	}
	if err != nil {
		return v3.EndDevice{}, err
	}
	return f.states[id], nil
}

// SetDeviceSession merges a part into a session that agrees with it, as the core of the device does.
func (f *fakeDevices) SetDeviceSession(_ context.Context, id messages.DeviceID, s v3.Session) error {
	leave, err := f.enter("set", id)
	defer leave()
	if err == nil {
		err = f.ready(id)
	}
	switch {
	case err != nil:
		return err
	case s.DevAddr == nil:
		return messages.Invalid("no_dev_addr", "session.dev_addr is missing")
	}
	agree := func(a, b *v3.KeyEnvelope) bool { return a == nil || b == nil || keyOf(a) == keyOf(b) }
	state := f.states[id]
	next := v3.Session{DevAddr: s.DevAddr}
	if old := state.Session; old != nil && *old.DevAddr == *s.DevAddr && agree(old.Keys.FNwkSIntKey, s.Keys.FNwkSIntKey) && agree(old.Keys.AppSKey, s.Keys.AppSKey) {
		next = *old
	}
	if s.Keys.FNwkSIntKey != nil {
		next.Keys.FNwkSIntKey = s.Keys.FNwkSIntKey
	}
	if s.Keys.AppSKey != nil {
		next.Keys.AppSKey = s.Keys.AppSKey
	}
	next.LastFCntUp = max(next.LastFCntUp, s.LastFCntUp)
	next.LastNFCntDown = max(next.LastNFCntDown, s.LastNFCntDown, s.LastAFCntDown)
	next.LastAFCntDown = next.LastNFCntDown
	state.Session = &next
	f.states[id] = state
	return nil
}

func (f *fakeDevices) ResetDevice(_ context.Context, id messages.DeviceID) error {
	leave, err := f.enter("reset", id)
	defer leave()
	if err == nil {
		err = f.ready(id)
	}
	if err != nil {
		return err
	}
	state := f.states[id]
	state.Session, state.PendingSession = nil, nil
	f.states[id] = state
	return nil
}

func (f *fakeDevices) DeleteDevice(_ context.Context, id messages.DeviceID) error {
	leave, err := f.enter("delete", id)
	defer leave()
	if err == nil {
		delete(f.states, id)
		delete(f.queues, id)
	}
	return err
}

func (f *fakeDevices) MoveDevice(_ context.Context, from, to messages.DeviceID, register func() error) error {
	leave, err := f.enter("move", from)
	leave()
	if err != nil {
		return err
	}
	if err := register(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.states[to], f.queues[to] = f.states[from], f.queues[from]
	delete(f.states, from)
	delete(f.queues, from)
	return nil
}

func (f *fakeDevices) SimulateUplink(_ context.Context, id messages.DeviceID, up v3.ApplicationUp) error {
	leave, err := f.enter("simulate", id)
	defer leave()
	f.ups = append(f.ups, up)
	return err
}

// state gives what the device with this id has now.
func (f *fakeDevices) state(app, dev string) (v3.EndDevice, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.states[messages.DeviceID{ApplicationID: app, DeviceID: dev}]
	return s, ok
}

func (f *fakeDevices) put(app, dev string, state v3.EndDevice) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.states[messages.DeviceID{ApplicationID: app, DeviceID: dev}] = state
}

func (f *fakeDevices) failOnce(method string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failNext[method] = err
}

func (f *fakeDevices) took() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	f.calls = nil
	return calls
}

// fakeFormatters decode to {"n":<bytes>} and encode to one byte; a script named "bad" fails.
type fakeFormatters struct{}

func (fakeFormatters) DecodeUplink(_ context.Context, f messages.Formatter, in messages.DecodeInput) (messages.Decoded, error) {
	switch f.Parameter {
	case "bad":
		return messages.Decoded{}, messages.Invalid("script", "line 1: unexpected token")
	case "plain":
		return messages.Decoded{}, errors.New("line 2: oops")
	case "busy":
		return messages.Decoded{}, messages.Errorf(messages.CodeUnavailable, "workers_busy", "try again later")
	}
	data, err := json.Marshal(map[string]int{"n": len(in.Bytes), "port": int(in.FPort)})
	return messages.Decoded{Data: data, Warnings: []string{"w"}}, err
}

func (fakeFormatters) EncodeDownlink(_ context.Context, f messages.Formatter, in messages.EncodeInput) (messages.Encoded, error) {
	if f.Parameter == "bad" {
		return messages.Encoded{}, messages.Invalid("script", "line 1: unexpected token")
	}
	return messages.Encoded{Bytes: []byte{byte(len(in.Data))}, FPort: max(in.FPort, 1)}, nil
}

func (f fakeFormatters) DecodeDownlink(ctx context.Context, s messages.Formatter, in messages.DecodeInput) (messages.Decoded, error) {
	return f.DecodeUplink(ctx, s, in)
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// door is a server under test, without a socket.
type door struct {
	testing.TB
	server   *Server
	registry *registry.Registry
	store    *memory.Store
	devices  *fakeDevices
	log      *logBuffer
	key      string
}

func newDoor(t testing.TB, change ...func(*Config)) *door {
	t.Helper()
	log := &logBuffer{}
	store := memory.New()
	reg, err := registry.Open(t.Context(), store, registry.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reg.EnsureAdminKey(t.Context(), adminKey); err != nil {
		t.Fatal(err)
	}
	devices := &fakeDevices{registry: reg, states: map[messages.DeviceID]v3.EndDevice{}, queues: map[messages.DeviceID][]messages.Downlink{}, failNext: map[string]error{}}
	cfg := Config{
		Listen: "127.0.0.1:0", PublicURL: "https://lora.example.com/", MQTTAddress: "lora.example.com:1883", Version: "1.2.3",
		Registry: reg, Devices: devices, Formatters: fakeFormatters{}, EventLog: store, Watch: reg.Watch, Origin: "node1",
		Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range change {
		f(&cfg)
	}
	s, err := newServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &door{TB: t, server: s, registry: reg, store: store, devices: devices, log: log, key: adminKey}
}

// with gives the same door for another key.
func (d *door) with(key string) *door {
	other := *d
	other.key = key
	return &other
}

type reply struct {
	door   *door
	call   string
	Status int
	Header http.Header
	Body   string
}

// do sends a request; body is JSON text, or a value to encode. Paths start after /api/v3.
func (d *door) do(method, path string, body any) reply {
	d.Helper()
	var text io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		text = strings.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			d.Fatal(err)
		}
		text = bytes.NewReader(raw)
	}
	req := httptest.NewRequest(method, prefix+path, text)
	if d.key != "" {
		req.Header.Set("Authorization", "Bearer "+d.key)
	}
	return d.send(req)
}

func (d *door) send(req *http.Request) reply {
	rec := httptest.NewRecorder()
	d.server.echo.ServeHTTP(rec, req)
	got := reply{d, req.Method + " " + req.URL.Path, rec.Code, rec.Header(), rec.Body.String()}
	answers.check(d, got)
	return got
}

// is checks the status.
func (r reply) is(status int) reply {
	r.door.Helper()
	if r.Status != status {
		r.door.Fatalf("%s: got HTTP %d %s, want %d", r.call, r.Status, r.Body, status)
	}
	return r
}

// fails checks status and error name.
func (r reply) fails(status int, name string) reply {
	r.door.Helper()
	r.is(status)
	if e := r.err(); e.Details[0].Name != name {
		r.door.Fatalf("%s: got error %s, want %s", r.call, r.Body, name)
	}
	return r
}

func (r reply) err() errorBody {
	r.door.Helper()
	var e errorBody
	if err := json.Unmarshal([]byte(r.Body), &e); err != nil || len(e.Details) != 1 {
		r.door.Fatalf("%s: not an error body: %s", r.call, r.Body)
	}
	return e
}

// tree gives the body.
func (r reply) tree() tree {
	r.door.Helper()
	t, err := decodeTree([]byte(r.Body))
	if err != nil {
		r.door.Fatalf("%s: %v in %s", r.call, err, r.Body)
	}
	return t
}

// at gives what is at a path of the body as JSON text, "" for nothing.
func (r reply) at(path string) string {
	r.door.Helper()
	v, ok := lookup(r.tree(), strings.Split(path, "."))
	if !ok {
		return ""
	}
	b, err := json.Marshal(v)
	if err != nil {
		r.door.Fatal(err)
	}
	return string(b)
}

// has checks what is at a path of the body.
func (r reply) has(path, want string) reply {
	r.door.Helper()
	if got := r.at(path); got != want {
		r.door.Fatalf("%s: %s is %q, want %q in %s", r.call, path, got, want, r.Body)
	}
	return r
}

// app makes an application.
func (d *door) app(id string) {
	d.Helper()
	d.do("POST", "/users/admin/applications", `{"application":{"ids":{"application_id":"`+id+`"}}}`).is(200)
}

// keyFor makes a key of app1 with rights.
func (d *door) keyFor(app string, rights ...messages.Right) string {
	d.Helper()
	key, err := d.registry.CreateAPIKey(d.Context(), app, v3.APIKey{Rights: rights})
	if err != nil {
		d.Fatal(err)
	}
	return key.Key
}

func at(text string) *time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return &t
}
