package actors

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lorikeet/messages"
)

var errIntegrationTest = errors.New("endpoint is down")

type refusal struct {
	tries int
	after time.Duration
}

func (refusal) Error() string               { return "refused" }
func (r refusal) Unwrap() error             { return messages.ErrPermanent }
func (r refusal) Tries() int                { return r.tries }
func (r refusal) RetryAfter() time.Duration { return r.after }
func integrationTime(s int) time.Time       { return time.Unix(1_800_000_000+int64(s), 0) }
func integrationDevice(n int) messages.DeviceID {
	return messages.DeviceID{ApplicationID: "app", DeviceID: fmt.Sprintf("dev%d", n)}
}

func integrationEntry(seq uint64, device int) messages.LogEntry {
	return messages.LogEntry{Seq: seq, Event: messages.Event{
		ID: fmt.Sprintf("event-%d", seq), Device: integrationDevice(device), Type: messages.EventUplink, Time: integrationTime(0), JSON: []byte(`{"n":1}`),
	}}
}

// integrationFill adds one event of each of devices, in order.
func integrationFill(q *integrationQueue, devices ...int) {
	for _, d := range devices {
		q.add(integrationEntry(q.read+1, d), true)
	}
}

func mustNext(t *testing.T, q *integrationQueue, now time.Time) messages.LogEntry {
	t.Helper()
	step := q.next(now)
	if step.Fetch != nil {
		after, _ := q.fetchRange(step.Fetch)
		e := integrationEntry(after+1, 0)
		e.Device = step.Fetch.device
		q.fetched(step.Fetch, []messages.LogEntry{e})
		step = q.next(now)
	}
	if step.Entry == nil {
		t.Fatalf("nothing to deliver at %v; wake %v", now, step.Wake)
	}
	return *step.Entry
}

func TestOneDeliveryADeviceAtOnce(t *testing.T) {
	q := newIntegrationQueue(defaultIntegrationLimits(), 0)
	integrationFill(q, 1, 1, 2, 1)
	first, second := mustNext(t, q, integrationTime(0)), mustNext(t, q, integrationTime(0))
	if first.Seq != 1 || second.Seq != 3 {
		t.Fatalf("got events %d and %d, want 1 and 3", first.Seq, second.Seq)
	}
	if step := q.next(integrationTime(0)); step.Entry != nil {
		t.Fatalf("event %d while its device is busy", step.Entry.Seq)
	}
	q.done(second, integrationTime(0), nil, 0)
	if got := q.cursor(); got != 0 {
		t.Fatalf("cursor %d passed an event under way", got)
	}
	q.done(first, integrationTime(0), nil, 0)
	if got := q.cursor(); got != 1 {
		t.Fatalf("cursor %d, want 1", got)
	}
	if e := mustNext(t, q, integrationTime(0)); e.Seq != 2 {
		t.Fatalf("got event %d, want 2", e.Seq)
	}
}

func TestFailingDeviceHoldsBackOnlyItself(t *testing.T) {
	q := newIntegrationQueue(defaultIntegrationLimits(), 0)
	integrationFill(q, 1, 2, 1, 2)
	now := integrationTime(0)
	q.done(mustNext(t, q, now), now, errIntegrationTest, .5)
	for _, want := range []uint64{2, 4} {
		e := mustNext(t, q, now)
		if e.Seq != want {
			t.Fatalf("got event %d, want %d", e.Seq, want)
		}
		q.done(e, now, nil, 0)
	}
	step := q.next(now)
	if want := now.Add(500 * time.Millisecond); step.Entry != nil || !step.Wake.Equal(want) {
		t.Fatalf("got %+v, want to wake at %v", step, want)
	}
	if q.bodies != 0 || q.bytes != 0 || q.held != 2 {
		t.Fatalf("a waiting device keeps %d events (%d bytes) in memory and %d places", q.bodies, q.bytes, q.held)
	}
	if e := mustNext(t, q, step.Wake); e.Seq != 1 {
		t.Fatalf("got event %d, want 1 again", e.Seq)
	}
}

func TestBackoffDoublesUpToItsCap(t *testing.T) {
	for n, want := range map[int]time.Duration{0: time.Second, 1: 2 * time.Second, 9: 512 * time.Second, 10: 15 * time.Minute, 63: 15 * time.Minute, 5000: 15 * time.Minute} {
		if got := integrationBackoff(time.Second, 15*time.Minute, n, 1); got != want {
			t.Errorf("after %d failures %v, want %v", n, got, want)
		}
	}
}

func TestCircuitOpensAndProbesDifferentDevices(t *testing.T) {
	q := newIntegrationQueue(defaultIntegrationLimits(), 0)
	devices := 12
	for d := range devices {
		integrationFill(q, d, d)
	}
	now := integrationTime(0)
	for range 10 {
		q.done(mustNext(t, q, now), now, errIntegrationTest, 0)
	}
	if !q.open || q.room() != 0 {
		t.Fatalf("open %v, room %d after 10 failures in a row", q.open, q.room())
	}
	seen := map[messages.DeviceID]bool{}
	for range devices {
		step := q.next(now)
		if step.Entry != nil {
			t.Fatalf("event %d sent while the circuit is open", step.Entry.Seq)
		}
		now = step.Wake
		e := mustNext(t, q, now)
		seen[e.Device] = true
		if again := q.next(now); again.Entry != nil || again.Fetch != nil {
			t.Fatal("a second probe at once")
		}
		q.done(e, now, errIntegrationTest, .99)
	}
	if len(seen) < 3 {
		t.Fatalf("%d probes went to %d devices only", devices, len(seen))
	}
	if wait := q.openUntil.Sub(now); wait > 30*time.Second {
		t.Fatalf("the next probe is %v away", wait)
	}
	now = q.openUntil
	q.done(mustNext(t, q, now), now, nil, 0)
	for range devices - 1 { // all go on at once
		mustNext(t, q, now)
	}
}

func TestRefusedEventBecomesADeadLetterAfterItsTries(t *testing.T) {
	q := newIntegrationQueue(defaultIntegrationLimits(), 0)
	integrationFill(q, 1, 1)
	now := integrationTime(0)
	for i := range 5 {
		e := mustNext(t, q, now)
		if e.Seq != 1 {
			t.Fatalf("try %d: event %d passed the refused one", i, e.Seq)
		}
		got := q.done(e, now, refusal{tries: 5}, 0)
		if want := map[bool]integrationOutcome{true: outcomeDead, false: outcomeRetry}[i == 4]; got != want {
			t.Fatalf("try %d: outcome %v, want %v", i, got, want)
		}
	}
	if e := mustNext(t, q, now); e.Seq != 2 {
		t.Fatalf("got event %d, want 2", e.Seq)
	}
	if q.cursor() != 1 || q.failures != 0 {
		t.Fatalf("cursor %d, failures %d", q.cursor(), q.failures)
	}
}

func TestRetryAfterIsHonouredUpToAnHour(t *testing.T) {
	for _, c := range []struct{ wish, want time.Duration }{{2 * time.Minute, 2 * time.Minute}, {48 * time.Hour, time.Hour}, {-time.Hour, 0}} {
		q := newIntegrationQueue(defaultIntegrationLimits(), 0)
		integrationFill(q, 1)
		now := integrationTime(0)
		q.done(mustNext(t, q, now), now, refusal{tries: 5, after: c.wish}, 0)
		if got := q.wait[0].notBefore.Sub(now); got != c.want {
			t.Errorf("Retry-After %v: waits %v, want %v", c.wish, got, c.want)
		}
	}
}

func TestOldEventThatAloneFailsIsGivenUp(t *testing.T) {
	q := newIntegrationQueue(defaultIntegrationLimits(), 0)
	integrationFill(q, 1, 2)
	now := integrationTime(80 * 3600)
	for i := range 4 {
		if got := q.done(mustNext(t, q, now), now, errIntegrationTest, 0); got != outcomeRetry {
			t.Fatalf("try %d: %v", i, got)
		}
		if i == 0 { // the other device gets through
			now = now.Add(time.Second)
			q.done(mustNext(t, q, now), now, nil, 0)
		}
		now = now.Add(time.Hour)
	}
	if got := q.done(mustNext(t, q, now), now, errIntegrationTest, 0); got != outcomeDead {
		t.Fatalf("outcome %v, want dead letter", got)
	}
}

func TestEventOfADeadEndpointIsNeverGivenUp(t *testing.T) {
	q := newIntegrationQueue(defaultIntegrationLimits(), 0)
	integrationFill(q, 1)
	now := integrationTime(80 * 3600)
	for range 100 {
		if got := q.done(mustNext(t, q, now), now, errIntegrationTest, .5); got != outcomeRetry {
			t.Fatalf("outcome %v", got)
		}
		now = now.Add(time.Hour)
	}
}

func TestEventsThatLeftTheLogAreCountedAndPassed(t *testing.T) {
	q := newIntegrationQueue(defaultIntegrationLimits(), 0)
	integrationFill(q, 1, 1, 1)
	now := integrationTime(0)
	q.done(mustNext(t, q, now), now, errIntegrationTest, 0)
	step := q.next(now)
	if lost := q.fetched(step.Fetch, []messages.LogEntry{integrationEntry(3, 1)}); lost != 2 {
		t.Fatalf("lost %d, want 2", lost)
	}
	if e := mustNext(t, q, now); e.Seq != 3 {
		t.Fatalf("got event %d, want 3", e.Seq)
	}
	q2 := newIntegrationQueue(defaultIntegrationLimits(), 0)
	integrationFill(q2, 1)
	q2.done(mustNext(t, q2, now), now, errIntegrationTest, 0)
	if lost := q2.fetched(q2.next(now).Fetch, nil); lost != 1 || q2.cursor() != 1 || len(q2.lanes) != 0 {
		t.Fatalf("lost %d, cursor %d", lost, q2.cursor())
	}
}

// checkRequest checks that the events of one request may share it, and that no device has a delivery under way twice.
func checkRequest(t *rapid.T, q *integrationQueue, request []messages.LogEntry) {
	if len(request) > q.limits.BatchEvents {
		t.Fatalf("%d events in a request, want at most %d", len(request), q.limits.BatchEvents)
	}
	last := map[messages.DeviceID]uint64{}
	for _, e := range request {
		if q.key(e) != q.key(request[0]) {
			t.Fatalf("events %d and %d can't share a request", e.Seq, request[0].Seq)
		}
		if e.Seq <= last[e.Device] {
			t.Fatalf("event %d after %d in a request", e.Seq, last[e.Device])
		}
		last[e.Device] = e.Seq
		if a, b := q.lanes[e.Device], q.again[e.Device]; a != nil && b != nil && a.busy && b.busy {
			t.Fatalf("%s has two deliveries under way", e.Device)
		}
	}
}

// TestQueueKeepsItsPromises runs random outcomes over a random log: every event is settled exactly once and in order per device,
// the cursor never passes an unsettled event, and memory stays within the window.
func TestQueueKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := defaultIntegrationLimits()
		limits.Concurrency = rapid.IntRange(1, 4).Draw(t, "concurrency")
		limits.WindowEntries = rapid.IntRange(1, 8).Draw(t, "window")
		limits.LaneEntries = rapid.IntRange(1, 3).Draw(t, "lane")
		limits.OpenAfter = rapid.IntRange(1, 5).Draw(t, "open after")
		limits.BatchEvents = rapid.IntRange(1, 4).Draw(t, "batch")
		limits.BatchWait = time.Duration(rapid.IntRange(0, 3).Draw(t, "wait")) * time.Second
		keys := uint64(rapid.IntRange(1, 3).Draw(t, "keys"))
		var log []messages.LogEntry
		for i := range rapid.IntRange(1, 60).Draw(t, "events") {
			log = append(log, integrationEntry(uint64(i+1), rapid.IntRange(0, 4).Draw(t, "device")))
		}
		q, now := newIntegrationQueue(limits, 0), integrationTime(0)
		q.key = func(e messages.LogEntry) string { return fmt.Sprint(e.Seq % keys) }
		last, settled, under := map[messages.DeviceID]uint64{}, map[uint64]bool{}, [][]messages.LogEntry{}
		var dead []messages.LogEntry
		driven := map[uint64]bool{}
		for steps := 0; len(settled) < len(log) || len(driven) > 0; steps++ {
			if steps > 100_000 {
				t.Fatalf("stuck with %d of %d settled", len(settled), len(log))
			}
			for q.room() > 0 && int(q.read) < len(log) {
				q.add(log[q.read], true)
			}
			step := q.next(now)
			switch {
			case step.Fetch != nil:
				after, count := q.fetchRange(step.Fetch)
				q.fetched(step.Fetch, log[after:min(int(after)+count, len(log))])
			case step.Entry != nil:
				checkRequest(t, q, step.Entries)
				under = append(under, step.Entries)
			case len(under) == 0:
				now = step.Wake
			}
			if n := rapid.IntRange(0, 40).Draw(t, "redrive"); n < len(dead) {
				if e := dead[n]; q.redrive(e.Device, e.Seq) {
					dead = append(dead[:n:n], dead[n+1:]...)
					driven[e.Seq] = true
				}
			}
			if q.bodies > limits.WindowEntries+limits.Concurrency*limits.BatchEvents+1 {
				t.Fatalf("%d events in memory", q.bodies)
			}
			if len(under) > 0 && (len(under) == limits.Concurrency || step.Entry == nil && step.Fetch == nil || rapid.Bool().Draw(t, "settle")) {
				i := rapid.IntRange(0, len(under)-1).Draw(t, "which")
				request := under[i]
				under = append(under[:i:i], under[i+1:]...)
				var err error
				switch rapid.IntRange(0, 5).Draw(t, "outcome") {
				case 0, 1:
					err = errIntegrationTest
				case 2:
					err = refusal{tries: 3}
				case 3:
					q.requeue(request...)
					continue
				}
				_, again := q.attempt(request[0])
				outcome := q.settle(request, now, err, .5)
				if outcome == outcomeRetry {
					continue
				}
				for _, e := range request {
					switch {
					case again != driven[e.Seq]:
						t.Fatalf("event %d: driven again %v, want %v", e.Seq, again, driven[e.Seq])
					case again:
						delete(driven, e.Seq)
					case settled[e.Seq] || e.Seq <= last[e.Device]:
						t.Fatalf("event %d of %s settled after %d", e.Seq, e.Device, last[e.Device])
					default:
						settled[e.Seq], last[e.Device] = true, e.Seq
					}
					if outcome == outcomeDead {
						dead = append(dead, e)
					}
				}
			}
			for seq := uint64(1); seq <= q.cursor(); seq++ {
				if !settled[seq] {
					t.Fatalf("cursor %d passed event %d", q.cursor(), seq)
				}
			}
		}
		if q.cursor() != uint64(len(log)) || q.bodies != 0 || q.bytes != 0 || q.held != 0 || len(q.lanes) != 0 || len(q.again) != 0 || q.busy != 0 {
			t.Fatalf("left over: cursor %d, %d bodies, %d bytes, %d held, %d lanes, %d busy", q.cursor(), q.bodies, q.bytes, q.held, len(q.lanes), q.busy)
		}
	})
}

// absent is an answer such as 404, which may be meant for every event.
type absent struct{ refusal }

func (absent) OfEndpoint() bool { return true }

func TestAnAddressThatIsNotFoundIsAnOutageUntilOthersPass(t *testing.T) {
	q := newIntegrationQueue(defaultIntegrationLimits(), 0)
	integrationFill(q, 1, 1)
	now, notFound := integrationTime(0), absent{refusal{tries: 5}}
	fail := func(device int) integrationOutcome {
		t.Helper()
		for range 1000 {
			step := q.next(now)
			switch {
			case step.Fetch != nil:
				after, _ := q.fetchRange(step.Fetch)
				e := integrationEntry(after+1, 0)
				e.Device = step.Fetch.device
				q.fetched(step.Fetch, []messages.LogEntry{e})
			case step.Entry == nil:
				now = step.Wake
			case step.Entry.Device == integrationDevice(device):
				return q.done(*step.Entry, now, notFound, .5)
			default:
				q.done(*step.Entry, now, nil, .5)
			}
		}
		t.Fatalf("device %d is not tried", device)
		return outcomeDead
	}
	for try := range 50 {
		if outcome := fail(1); outcome != outcomeRetry || q.cursor() != 0 {
			t.Fatalf("try %d: outcome %v, cursor %d: the event was given up though nothing else got through", try, outcome, q.cursor())
		}
	}
	if !q.open {
		t.Fatal("the circuit is closed although nothing gets through")
	}
	now = now.Add(time.Hour)
	q.done(mustNext(t, q, now), now, nil, .5) // the endpoint is back
	if q.open || q.cursor() != 1 {
		t.Fatalf("open %v, cursor %d after a success, want 1", q.open, q.cursor())
	}
	for try := range 4 { // only this device is not found
		integrationFill(q, 2)
		if outcome := fail(1); outcome != outcomeRetry {
			t.Fatalf("try %d: outcome %v", try+1, outcome)
		}
		now = now.Add(time.Hour)
	}
	if outcome := fail(1); outcome != outcomeDead {
		t.Fatalf("outcome %v after 5 tries while others pass, want it to be given up", outcome)
	}
}

func TestAnotherSideThatTakesNothingCostsLittleMemory(t *testing.T) {
	limits := defaultIntegrationLimits()
	q := newIntegrationQueue(limits, 0)
	now := integrationTime(0)
	fill := func() {
		for n := 0; q.room() > 0; n++ {
			integrationFill(q, n/10) // 10 events of each device
		}
	}
	fill()
	if most := cautiousLane * limits.Concurrency; q.bodies > most {
		t.Errorf("%d events in memory before anything got through, want at most %d", q.bodies, most)
	}
	under := map[messages.DeviceID]bool{}
	for range limits.Concurrency {
		under[mustNext(t, q, now).Device] = true
	}
	if len(under) != limits.Concurrency {
		t.Errorf("%d devices are served at once, want %d", len(under), limits.Concurrency)
	}
	for device := range under {
		q.done(q.lanes[device].bodies[0], now, nil, .5)
	}
	fill()
	if q.bodies != limits.WindowEntries {
		t.Errorf("%d events in memory after a success, want %d", q.bodies, limits.WindowEntries)
	}
	for !q.open {
		q.done(mustNext(t, q, now), now, errIntegrationTest, .5)
	}
	if q.bodies != 0 || q.bytes != 0 || q.held == 0 {
		t.Errorf("%d events (%d bytes) in memory while nothing gets through, and %d places", q.bodies, q.bytes, q.held)
	}
}
