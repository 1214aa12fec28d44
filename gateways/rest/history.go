package rest

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// History reads the events that the log of an application keeps.
type History interface {
	// ReadHistory gives a page of the entries that a query names, in the order it asks for. JSON is shared: it must not be changed.
	ReadHistory(ctx context.Context, q messages.HistoryQuery) (messages.HistoryPage, error)
	// CountHistory gives how many entries a query names, for each device that has any.
	CountHistory(ctx context.Context, q messages.HistoryQuery) (map[string]uint64, error)
}

const (
	historyPage = 1000 // events that are read at once; up to as many, an answer is made whole before it is sent

	// continuationHeader gives the token with which the same query goes on. It is a trailer of an answer that is sent while it is read.
	continuationHeader = "X-Continuation-Token"
)

func historyRoutes() []route {
	var out []route
	for _, scope := range []string{"/as/applications/:application_id", "/as/applications/:application_id/devices/:device_id"} {
		storage := scope + "/packages/storage"
		out = append(out,
			route{http.MethodGet, storage, readTraffic, (*Server).readHistory},
			route{http.MethodGet, storage + "/", readTraffic, (*Server).readHistory},
			route{http.MethodGet, storage + "/:type", readTraffic, (*Server).readHistory},
			route{http.MethodGet, storage + "/count", readTraffic, (*Server).countHistory},
			route{http.MethodGet, storage + "/:type/count", readTraffic, (*Server).countHistory},
		)
	}
	return out
}

// historyRequest is a query of the storage integration of The Things Stack.
type historyRequest struct {
	messages.HistoryQuery
	limit int // 0: none
	fPort int // -1: any
	paths []string
	csv   bool
	bound [8]byte // tells tokens of this query from others
}

// historyRequest reads the query.
func (c *call) historyRequest() (r historyRequest, err error) {
	if c.server.cfg.History == nil {
		return r, messages.Errorf(messages.CodePrecondition, "history_not_available", "this server keeps no history")
	}
	if !c.server.cfg.Registry.ApplicationExists(c.app()) {
		return r, messages.NotFound("application_not_found", "application %q not found", shorten(c.app()))
	}
	r.ApplicationID, r.DeviceID, r.fPort = c.app(), c.Param("device_id"), -1
	if r.Type, err = eventType(c.Param("type")); err != nil {
		return r, err
	}
	if r.limit, err = c.count("limit", 0, math.MaxInt32); err != nil {
		return r, err
	}
	if text := c.QueryParam("f_port"); text != "" {
		n, err := strconv.ParseUint(text, 10, 8)
		if err != nil {
			return r, messages.Invalid("invalid_f_port", "f_port=%s: use a number of 0 to 255", shorten(text))
		}
		r.fPort = int(n)
	}
	switch order := c.QueryParam("order"); order {
	case "", "received_at":
	case "-received_at":
		r.NewestFirst = true
	default:
		return r, messages.Invalid("invalid_order", "order=%s: use received_at for the oldest first, or -received_at for the newest first", shorten(order))
	}
	if r.paths, err = c.historyPaths(); err != nil {
		return r, err
	}
	if r.csv, err = c.wantsCSV(); err != nil {
		return r, err
	}
	r.bind(c)
	return r, c.historyTimes(&r)
}

func eventType(name string) (messages.EventType, error) {
	if t := messages.EventType(name); name == "" || slices.Contains(messages.EventTypes[:], t) {
		return t, nil
	}
	var names []string
	for _, t := range messages.EventTypes {
		names = append(names, string(t))
	}
	return "", messages.Invalid("invalid_type", "type %q is not known: use one of %s, or leave it out for all", shorten(name), strings.Join(names, ", "))
}

// historyPaths are the paths of the field mask. The Things Stack writes "up." before those of a message.
func (c *call) historyPaths() ([]string, error) {
	paths, err := c.readPaths()
	for i, p := range paths {
		paths[i] = strings.TrimPrefix(p, "up.")
	}
	return paths, err
}

func (c *call) wantsCSV() (bool, error) {
	switch format := c.QueryParam("format"); format {
	case "csv":
		return true, nil
	case "json":
		return false, nil
	case "":
		return strings.Contains(c.Request().Header.Get("Accept"), "text/csv"), nil
	default:
		return false, messages.Invalid("invalid_format", "format=%s: use json or csv", shorten(format))
	}
}

// historyTimes reads after, before and last, and the token, which repeats where last began when the first page was read.
func (c *call) historyTimes(r *historyRequest) (err error) {
	if r.After, err = c.time("after"); err != nil {
		return err
	}
	if r.Before, err = c.time("before"); err != nil {
		return err
	}
	if text := c.QueryParam("last"); text != "" {
		last, err := time.ParseDuration(text)
		switch {
		case err != nil || last <= 0:
			return messages.Invalid("invalid_last", "last=%s: use a duration such as 90s, 30m or 24h", shorten(text))
		case !r.After.IsZero():
			return messages.Invalid("invalid_last", "last and after exclude each other: leave one out")
		}
		r.After = time.Now().Add(-last)
	}
	if text := c.QueryParam("continuation_token"); text != "" {
		return r.proceed(text)
	}
	return nil
}

func (c *call) time(name string) (t time.Time, err error) {
	text := c.QueryParam(name)
	if text == "" {
		return t, nil
	}
	if t, err = time.Parse(time.RFC3339Nano, strings.ReplaceAll(text, " ", "+")); err != nil { // an unescaped + came as a space
		return t, messages.Invalid("invalid_"+name, "%s=%s: want a time such as 2024-10-24T10:00:00Z", name, shorten(text))
	}
	return t, nil
}

// bind makes tokens good for this query only.
func (r *historyRequest) bind(c *call) {
	parts := []string{r.ApplicationID, r.DeviceID, string(r.Type)}
	for _, name := range []string{"after", "before", "last", "f_port", "order"} {
		parts = append(parts, c.QueryParam(name))
	}
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	copy(r.bound[:], sum[:])
}

const tokenSize = 1 + 8 + 8 + 8

// token gives the place behind a Seq.
func (r *historyRequest) token(seq uint64) string {
	b := append(make([]byte, 0, tokenSize), 1)
	b = append(b, r.bound[:]...)
	b = binary.BigEndian.AppendUint64(b, seq)
	after := int64(0)
	if !r.After.IsZero() {
		after = r.After.UnixNano()
	}
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint64(b, uint64(after)))
}

// proceed takes up a token.
func (r *historyRequest) proceed(token string) error {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) != tokenSize || b[0] != 1 || [8]byte(b[1:9]) != r.bound {
		return messages.Invalid("invalid_continuation_token", "the continuation_token is not of this query: repeat the query that gave it with all its parameters, or begin without a token")
	}
	r.From = binary.BigEndian.Uint64(b[9:])
	if after := int64(binary.BigEndian.Uint64(b[17:])); after != 0 {
		r.After = time.Unix(0, after)
	}
	return nil
}

// each calls do for every event of the request, and gives the token with which the query goes on; "" if there is no more.
func (s *Server) each(ctx context.Context, r historyRequest, do func([]messages.LogEntry) error) (token string, err error) {
	left := r.limit
	for {
		r.Max = historyPage
		if r.limit > 0 && r.fPort < 0 {
			r.Max = min(left, historyPage)
		}
		page, err := s.cfg.History.ReadHistory(ctx, r.HistoryQuery)
		if err != nil {
			return "", err
		}
		entries := page.Entries
		if r.fPort >= 0 {
			entries = slices.DeleteFunc(slices.Clone(entries), func(e messages.LogEntry) bool { return fPortOf(e.Event) != r.fPort })
		}
		if r.limit > 0 && len(entries) > left {
			entries = entries[:left]
			page.Next = entries[left-1].Seq
		}
		left -= len(entries)
		if len(entries) > 0 {
			if err := do(entries); err != nil {
				return "", err
			}
		}
		switch {
		case page.Next == 0:
			return "", nil
		case r.limit > 0 && left == 0:
			return r.token(page.Next), nil
		}
		r.From = page.Next
	}
}

// fPortOf gives the FPort that an event is about; 0 for one without.
func fPortOf(e messages.Event) int {
	type port struct {
		FPort    v3.Uint32 `json:"f_port"`
		Downlink struct {
			FPort v3.Uint32 `json:"f_port"`
		} `json:"downlink"`
	}
	var bodies map[string]json.RawMessage
	var p port
	if json.Unmarshal(e.JSON, &bodies) != nil || json.Unmarshal(bodies[string(e.Type)], &p) != nil {
		return 0
	}
	return int(max(p.FPort, p.Downlink.FPort))
}

func (s *Server) readHistory(c *call) error {
	r, err := c.historyRequest()
	if err != nil {
		return err
	}
	if r.csv {
		return s.historyCSV(c, r)
	}
	mime, separator := "application/x-ndjson", "\n"
	if strings.Contains(c.Request().Header.Get("Accept"), "text/event-stream") { // as The Things Stack answers its own clients
		mime, separator = "text/event-stream", "\n\n"
	}
	out := newDownload(c, mime, r.limit > 0 && r.limit <= historyPage)
	out.paged = true
	defer out.close()
	token, err := s.each(c.ctx(), r, func(entries []messages.LogEntry) error {
		for _, e := range entries {
			body, err := r.body(e.Event)
			if err != nil {
				return err
			}
			out.buffer.WriteString(`{"result":`)
			out.buffer.Write(body)
			out.buffer.WriteString("}" + separator)
		}
		return out.flush()
	})
	if err != nil && out.sent {
		s.failLate(c, out, err, separator)
		return nil
	}
	if err != nil {
		return err
	}
	return out.finish(token)
}

// failLate tells of an error in an answer that is under way, as The Things Stack does in its streams.
func (s *Server) failLate(c *call, out *download, err error, separator string) {
	if c.ctx().Err() != nil {
		return // nobody listens
	}
	details := v3.DetailsOf(namespace, classify(c, err))
	details.CorrelationID = requestID(c)
	line, e := json.Marshal(map[string]any{"error": errorBody{Code: details.Code, Message: fmt.Sprintf("error:pkg/%s:%s (%s)", namespace, details.Name, details.MessageFormat),
		Details: []errorDetail{{Type: "type.googleapis.com/ttn.lorawan.v3.ErrorDetails", ErrorDetails: details}}}})
	if e == nil {
		out.buffer.Write(line)
		out.buffer.WriteString(separator)
		_ = out.finish("")
	}
	s.log.WarnContext(c.ctx(), "history ended early", "application_id", c.app(), "request_id", requestID(c), "err", err)
}

// body is an event with the fields that the mask names.
func (r *historyRequest) body(e messages.Event) ([]byte, error) {
	if r.paths == nil || slices.Contains(r.paths, everything) {
		return e.JSON, nil
	}
	whole, err := decodeTree(e.JSON)
	if err != nil {
		return nil, fmt.Errorf("event %s: %w", e.ID, err)
	}
	shown := tree{}
	for _, p := range append([]string{"end_device_ids", "received_at"}, r.paths...) {
		copyPath(shown, whole, strings.Split(p, "."))
	}
	return json.Marshal(shown)
}

// historyCount is how many events there are by device.
type historyCount struct {
	Count map[string]uint64 `json:"count"`
}

func (s *Server) countHistory(c *call) error {
	r, err := c.historyRequest()
	if err != nil {
		return err
	}
	if r.fPort < 0 {
		counts, err := s.cfg.History.CountHistory(c.ctx(), r.HistoryQuery)
		if err != nil {
			return err
		}
		return c.JSON(http.StatusOK, historyCount{counts})
	}
	r.limit = 0
	counts := map[string]uint64{}
	_, err = s.each(c.ctx(), r, func(entries []messages.LogEntry) error {
		for _, e := range entries {
			counts[e.Device.DeviceID]++
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, historyCount{counts})
}
