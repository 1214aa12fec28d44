package rest

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

const (
	maxStreams       = 1024 // at one time
	maxIdentifiers   = 100  // of one stream
	loginBuffer      = 64
	newsBuffer       = 256              // news of deliveries that a client may be behind
	noticeBlock      = 256              // changes that are written at once
	eventWriteTime   = 10 * time.Second // a client that reads nothing for so long is cut off
	eventHeartbeat   = 15 * time.Second
	eventLogPatience = time.Second // before a log that can't be read is tried again
)

func eventRoutes() []route {
	return []route{
		{http.MethodPost, "/events", anyKey, (*Server).streamEvents},
		{http.MethodGet, "/events/related", anyKey, (*Server).relatedEvents},
	}
}

// eventsRequest is the body of a stream: whose events, how many of the past or since when, and which.
type eventsRequest struct {
	Identifiers []eventEntityIDs `json:"identifiers"`
	Tail        v3.Uint32        `json:"tail,omitempty"`
	After       *time.Time       `json:"after,omitempty"`
	Names       []string         `json:"names,omitempty"`
}

// subject is what a stream shows of one application: all of it, or some devices.
type subject struct {
	whole   bool
	devices map[string]bool
}

func (s subject) includes(device string) bool { return s.whole || s.devices[device] }

// stream is one client of the live view. It pulls: what a client does not read waits in the log, and nothing waits for the client.
type stream struct {
	server   *Server
	call     *call
	sse      bool
	wanted   nameFilter
	subjects map[string]subject
	notices  *noticeQueue
	logins   chan eventBody // that failed
	news     chan messages.DeliveryNotice
	live     chan []eventBody // of the logs
}

// streamEvents writes events until the client leaves. JSON lines {"result":{…}}, or server-sent events with Accept: text/event-stream.
func (s *Server) streamEvents(c *call) error {
	req, err := decodeBody[eventsRequest](c)
	if err != nil {
		return err
	}
	st := &stream{server: s, call: c, notices: newNoticeQueue(maxNotices), news: make(chan messages.DeliveryNotice, newsBuffer), logins: make(chan eventBody, loginBuffer), live: make(chan []eventBody)}
	if st.wanted, err = newNameFilter(req.Names); err != nil {
		return err
	}
	if st.subjects, err = c.subjectsOf(req.Identifiers); err != nil {
		return err
	}
	if s.streams.Add(1) > maxStreams {
		s.streams.Add(-1)
		return messages.Errorf(messages.CodeExhausted, "too_many_streams", "there are %d event streams already: close one, or use MQTT or a webhook", maxStreams)
	}
	defer s.streams.Add(-1)
	st.sse = strings.Contains(c.Request().Header.Get("Accept"), "text/event-stream")
	return st.run(req)
}

// subjectsOf checks that the caller may see what it names.
func (c *call) subjectsOf(identifiers []eventEntityIDs) (map[string]subject, error) {
	switch {
	case len(identifiers) == 0:
		return nil, messages.Invalid("no_identifiers", `the body has no identifiers: send {"identifiers":[{"application_ids":{"application_id":"app1"}}]}`)
	case len(identifiers) > maxIdentifiers:
		return nil, messages.Invalid("invalid_identifiers", "%d identifiers: use at most %d", len(identifiers), maxIdentifiers)
	}
	out := map[string]subject{}
	for _, ids := range identifiers {
		app, device := "", ""
		switch {
		case ids.ApplicationIDs != nil:
			app = ids.ApplicationIDs.ApplicationID
		case ids.DeviceIDs != nil:
			app, device = ids.DeviceIDs.ApplicationIDs.ApplicationID, ids.DeviceIDs.DeviceID
			if err := messages.ValidateID(device); err != nil {
				return nil, messages.Invalid("invalid_id", "identifiers.device_ids: %w", err)
			}
		default:
			return nil, messages.Invalid("invalid_identifiers", "only applications and devices have events here: use application_ids or device_ids")
		}
		if err := c.maySee(app); err != nil {
			return nil, err
		}
		s := out[app]
		if s.devices == nil {
			s.devices = map[string]bool{}
		}
		s.whole = s.whole || device == ""
		s.devices[device] = true
		out[app] = s
	}
	return out, nil
}

// maySee needs any right that shows an event of the application.
func (c *call) maySee(app string) error {
	if err := messages.ValidateID(app); err != nil {
		return messages.Invalid("invalid_id", "identifiers.application_ids: %w", err)
	}
	if !c.access.Admin && c.access.ApplicationID != app {
		return noApplicationRights(app)
	}
	if !c.server.cfg.Registry.ApplicationExists(app) {
		return messages.NotFound("application_not_found", "application %q not found", app)
	}
	rights := append(slices.Collect(maps.Values(changeRights)), messages.RightApplicationTrafficRead)
	if !slices.ContainsFunc(rights, func(r messages.Right) bool { return c.access.Can(app, r) }) {
		return insufficient(app, messages.RightApplicationTrafficRead)
	}
	return nil
}

func (st *stream) run(req eventsRequest) error {
	s, c := st.server, st.call
	ctx, cancel := context.WithCancelCause(c.ctx())
	defer cancel(nil)
	stop := context.AfterFunc(s.closing, func() { cancel(s.closing.Err()) })
	defer stop()
	defer s.cfg.Watch(func(change messages.Change) { st.note(change, cancel) })()
	defer s.cfg.WatchLogins(st.noteLogin)()
	defer s.cfg.WatchDeliveries(func(n messages.DeliveryNotice) { st.noteDelivery(n, cancel) })()
	ends, logs, err := st.openLogs(ctx)
	if err != nil {
		return err
	}
	defer logs.close()
	past, err := st.history(ctx, req, ends)
	if err != nil {
		return err
	}
	if err := st.begin(); err != nil {
		return err
	}
	if err := st.send(append([]eventBody{st.started()}, past...)); err != nil {
		return nil // the client left
	}
	followers := st.follow(ctx, ends, logs)
	err = st.forward(ctx)
	cancel(nil)
	followers()
	s.log.LogAttrs(c.ctx(), slog.LevelDebug, "event stream ended", slog.Any("err", err), slog.String("remote", c.RealIP()))
	return nil
}

// errSlow ends the stream of a client that does not keep up.
var errSlow = errors.New("the client does not keep up")

// note hands over a change of the registry. It must not block.
func (st *stream) note(change messages.Change, cancel context.CancelCauseFunc) {
	n := notice{Change: change}
	subject, ok := st.subjects[n.application()]
	if !ok {
		return
	}
	if _, sub, _ := strings.Cut(change.ID, "."); change.Kind == messages.KindDevice && !subject.includes(sub) || change.Kind != messages.KindDevice && !subject.whole {
		return
	}
	if n.at = time.Now(); !st.notices.add(n) {
		cancel(errSlow)
	}
}

// noteLogin hands over that an MQTT client could not log in. Strangers can make these, so they cost nobody the stream: what is too much is left out.
func (st *stream) noteLogin(app string, reason error) {
	if !st.subjects[app].whole {
		return
	}
	select {
	case st.logins <- st.server.loginEvent(app, reason):
	default:
	}
}

// noteDelivery hands over what happened to an integration. It must not block.
func (st *stream) noteDelivery(n messages.DeliveryNotice, cancel context.CancelCauseFunc) {
	subject, ok := st.subjects[n.ApplicationID]
	if !ok || !subject.whole && (n.DeviceID == "" || !subject.includes(n.DeviceID)) {
		return
	}
	select {
	case st.news <- n:
	default:
		cancel(errSlow)
	}
}

// openLog is the log of an application and the signal that there is more in it.
type openLog struct {
	changed <-chan struct{}
	cancel  func()
}

type openLogs map[string]openLog

func (o openLogs) close() {
	for _, l := range o {
		l.cancel()
	}
}

// openLogs watches the logs first and then asks where they end, so that nothing falls in between.
func (st *stream) openLogs(ctx context.Context) (ends map[string]uint64, logs openLogs, err error) {
	ends, logs = map[string]uint64{}, openLogs{}
	for app := range st.subjects {
		if !st.call.access.Can(app, messages.RightApplicationTrafficRead) {
			continue
		}
		changed, cancel := st.server.cfg.EventLog.WatchLog(app)
		logs[app] = openLog{changed, cancel}
		if _, ends[app], err = st.server.cfg.EventLog.LogRange(ctx, app); err != nil {
			logs.close()
			return nil, nil, err
		}
	}
	return ends, logs, nil
}

// history gives the events of the past that the request wants, in the order of time.
func (st *stream) history(ctx context.Context, req eventsRequest, ends map[string]uint64) ([]eventBody, error) {
	limit, since := min(int(req.Tail), maxHistory), time.Time{}
	if req.After != nil {
		since = req.After.Add(1)
		if req.Tail == 0 {
			limit = maxHistory
		}
	}
	var out []eventBody
	for app, end := range ends {
		wanted := func(e messages.LogEntry) bool { return len(st.shown(app, e)) > 0 }
		entries, err := st.server.past(ctx, app, end, limit, maxHistoryReads, since, wanted)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			out = append(out, st.shown(app, e)...)
		}
	}
	slices.SortStableFunc(out, func(a, b eventBody) int { return a.Time.Compare(b.Time) })
	return out[max(len(out)-limit, 0):], nil
}

// shown gives the events of a log entry that the stream wants.
func (st *stream) shown(app string, e messages.LogEntry) []eventBody {
	if !st.subjects[app].includes(e.Device.DeviceID) {
		return nil
	}
	return slices.DeleteFunc(st.server.eventsOf(e), func(event eventBody) bool { return !st.wanted.wants(event.Name) })
}

func (st *stream) started() eventBody {
	event := eventBody{Name: "events.stream.start", Time: time.Now().UTC(), Identifiers: []eventEntityIDs{}, Origin: st.server.cfg.Origin, UniqueID: newRequestID("")}
	for app := range st.subjects {
		event.Identifiers = append(event.Identifiers, eventEntityIDs{ApplicationIDs: &v3.ApplicationIDs{ApplicationID: app}})
	}
	return event
}

// follow reads each log from its end on. It gives a function that waits for the readers to end, after their context has.
func (st *stream) follow(ctx context.Context, ends map[string]uint64, logs openLogs) (wait func()) {
	done := make(chan struct{}, len(logs))
	for app, l := range logs {
		go func() {
			st.followLog(ctx, app, ends[app], l.changed)
			done <- struct{}{}
		}()
	}
	return func() {
		for range logs {
			<-done
		}
	}
}

func (st *stream) followLog(ctx context.Context, app string, after uint64, changed <-chan struct{}) {
	for ctx.Err() == nil {
		entries, err := st.server.cfg.EventLog.ReadLog(ctx, app, after, historyBlock)
		var events []eventBody
		for _, e := range entries {
			events = append(events, st.shown(app, e)...)
			after = e.Seq
		}
		if len(events) > 0 {
			select {
			case st.live <- events:
			case <-ctx.Done():
			}
		}
		var again <-chan time.Time
		switch {
		case len(entries) > 0:
			continue
		case err != nil && ctx.Err() == nil:
			st.server.log.LogAttrs(ctx, slog.LevelWarn, "events can't be read; trying again", slog.String("application_id", app), slog.Any("err", err))
			again = time.After(eventLogPatience)
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-again:
		}
	}
}

// forward writes what comes until the client leaves, is too slow, or may not see it any more.
func (st *stream) forward(ctx context.Context) error {
	beat := time.NewTicker(st.server.heartbeat)
	defer beat.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case events := <-st.live:
			err = st.send(events)
		case <-st.notices.more:
			err = st.sendNotices(ctx, st.notices.take())
		case event := <-st.logins:
			if st.wanted.wants(event.Name) && st.call.access.Can(event.Identifiers[0].ApplicationIDs.ApplicationID, messages.RightApplicationTrafficRead) {
				err = st.send([]eventBody{event})
			}
		case n := <-st.news:
			if event := st.server.eventOfDelivery(n); st.wanted.wants(event.Name) && st.call.access.Can(n.ApplicationID, messages.RightApplicationTrafficRead) {
				err = st.send([]eventBody{event})
			}
		case <-beat.C:
			if err = st.recheck(ctx); err == nil {
				err = st.beat()
			}
		}
		if err != nil {
			return err
		}
	}
}

func (st *stream) sendNotices(ctx context.Context, all []notice) error {
	for block := range slices.Chunk(all, noticeBlock) {
		var events []eventBody
		for _, n := range block {
			event := st.server.eventOf(ctx, n)
			if st.wanted.wants(event.Name) && st.call.access.Can(n.application(), changeRights[n.Kind]) {
				events = append(events, event)
			}
		}
		if len(events) == 0 {
			continue
		}
		if err := st.send(events); err != nil {
			return err
		}
	}
	return nil
}

// recheck ends the stream of a key that was deleted, has expired or lost rights.
func (st *stream) recheck(ctx context.Context) error {
	key, err := st.call.key()
	if err != nil {
		return err
	}
	access, err := st.server.cfg.Registry.Authorize(ctx, key)
	switch {
	case err != nil && messages.CodeOf(err) == messages.CodeUnauthenticated:
		return err
	case err != nil:
		return nil // can't be told now
	}
	for app := range st.subjects {
		if st.call.access.Can(app, messages.RightApplicationTrafficRead) && !access.Can(app, messages.RightApplicationTrafficRead) {
			return insufficient(app, messages.RightApplicationTrafficRead)
		}
	}
	st.call.access = access
	return nil
}

// begin frees the connection of the limit of a request's time, and answers.
func (st *stream) begin() error {
	err := http.NewResponseController(st.call.Response()).SetReadDeadline(time.Time{})
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	header := st.call.Response().Header()
	header.Set("Content-Type", "application/json")
	if st.sse {
		header.Set("Content-Type", "text/event-stream")
	}
	header.Set("X-Accel-Buffering", "no") // asks proxies not to hold events back
	st.call.Response().WriteHeader(http.StatusOK)
	return nil
}

func (st *stream) send(events []eventBody) error {
	var out []byte
	for _, event := range events {
		line, err := json.Marshal(map[string]eventBody{"result": event})
		if err != nil {
			return err
		}
		if st.sse {
			out = append(append(append(out, "data: "...), line...), '\n')
		} else {
			out = append(out, line...)
		}
		out = append(out, '\n')
	}
	return st.write(out)
}

// beat shows that the stream is alive: a comment, or a space, which JSON allows before the next line.
func (st *stream) beat() error {
	if st.sse {
		return st.write([]byte(":\n\n"))
	}
	return st.write([]byte(" "))
}

func (st *stream) write(out []byte) error {
	rc := http.NewResponseController(st.call.Response())
	if err := rc.SetWriteDeadline(time.Now().Add(eventWriteTime)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := st.call.Response().Write(out); err != nil {
		return err
	}
	return rc.Flush()
}
