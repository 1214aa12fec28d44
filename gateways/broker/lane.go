package broker

import (
	"context"
	"math"
	"time"

	"lorikeet/messages"
)

// lane brings the events of QoS 1 and 2 to one session: in the order of the log, each until it is confirmed, and never more of them in memory than the
// client may have on its way. While the client keeps up, the feed of the application hands over each event as it comes. As soon as the window is full,
// the lane leaves the feed and a reader goes on from its own place in the log, until it has caught up. Who lags loses nothing.
//
// The packet id of an event follows from its place in the log. So an event has the same id on every connection, also after a crash and on another node,
// and a client of QoS 2 that has it already knows it again. All is guarded by session.mu.
type lane struct {
	following bool   // the feed hands over what comes
	place     uint64 // every event up to here was looked at; while following, the feed knows better
	epoch     int    // changes with place other than by going on
	reading   bool   // a reader is alive
	wake      chan struct{}

	waiting []*delivery // not confirmed, or behind one that is not
	byID    map[uint16]*delivery
	sent    int // not confirmed
	bytes   int // of their payloads

	done     map[uint64]struct{} // confirmed on an earlier connection, though something before them was not
	sentUpTo uint64              // what earlier connections may have sent

	dirty bool   // the cursor is to be saved
	saved uint64 // the cursor as it was saved
}

func newLane() lane {
	return lane{wake: make(chan struct{}, 1), byID: map[uint16]*delivery{}, done: map[uint64]struct{}{}}
}

const (
	readBatch = 128
	// retryPause is between two tries to read the log.
	retryPause = time.Second
	// maxPacketID is how many packet ids there are.
	maxPacketID = math.MaxUint16
)

func packetID(seq uint64) uint16 { return uint16(seq%maxPacketID) + 1 }

// room says whether an event may be sent now.
func (s *session) room(e *event) bool {
	switch {
	case s.sent == 0:
		return true
	case s.sent >= s.client.window || s.byID[packetID(e.seq)] != nil || s.bytes+len(e.payload) > s.client.limit/2:
		return false
	}
	return s.server.window.allows(s.bytes, len(e.payload))
}

// push sends an event for which there is room.
func (s *session) push(e *event, qos byte, ids []int) {
	d := &delivery{seq: e.seq, id: packetID(e.seq), qos: qos, bytes: len(e.payload)}
	s.waiting = append(s.waiting, d)
	s.byID[d.id] = d
	s.sent++
	s.hold(d.bytes)
	if !s.client.send(s, &outgoing{event: e, qos: qos, subscriptions: ids, again: e.seq <= s.sentUpTo, packetID: d.id}) {
		s.confirm(d)
	}
}

func (s *session) hold(n int) {
	s.bytes += n
	s.server.window.used.Add(int64(n))
}

// confirm settles a delivery.
func (s *session) confirm(d *delivery) {
	d.done = true
	if !s.following && d.seq > s.place { // of an earlier connection, and the reader has not passed it yet
		s.done[d.seq] = struct{}{}
	}
	delete(s.byID, d.id)
	s.sent--
	s.hold(-d.bytes)
	d.bytes = 0
	for len(s.waiting) > 0 && s.waiting[0].done {
		s.waiting[0] = nil
		s.waiting = s.waiting[1:]
	}
	s.notify()
	if !s.dirty && s.stored.durable.Load() {
		s.dirty = true
		s.server.saver.add(s)
	}
}

// notify tells the reader, if there is one, that something has changed.
func (s *session) notify() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// puback is called for PUBACK and, with qos 2, for PUBCOMP.
func (s *session) puback(id uint16, qos byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.byID[id]; d != nil && d.qos == qos {
		s.confirm(d)
	}
}

// pubrec is called for PUBREC. It gives the reason for the PUBREL that is to follow, and whether one is to follow.
func (s *session) pubrec(id uint16, refused bool) (reason byte, answer bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.byID[id]
	switch {
	case d == nil || d.qos != 2:
		return 0x92, !refused // packet identifier not found
	case refused:
		s.confirm(d)
		return 0, false
	}
	d.released = true
	return 0, true
}

// settled is the place up to which the client has confirmed everything that it is to have.
func (s *session) settled() uint64 {
	place := s.place
	if s.following {
		place = max(place, s.app.position.Load())
	}
	for _, d := range s.waiting {
		if !d.done {
			place = min(place, d.seq-1)
		}
	}
	return place
}

// pause ends sending with a connection. What is not confirmed will be read from the log again; of a message that only lacks its PUBCOMP, the id is kept.
func (s *session) pause() {
	cursor := s.settled()
	var released []*delivery
	for _, d := range s.waiting {
		s.sentUpTo = max(s.sentUpTo, d.seq)
		switch {
		case d.done:
			s.done[d.seq] = struct{}{}
		case d.released:
			released = append(released, d)
		default:
			delete(s.byID, d.id)
			s.sent--
		}
	}
	s.forgetDone(cursor)
	s.hold(-s.bytes)
	for _, d := range released {
		d.bytes = 0
	}
	s.waiting = released
	s.moveTo(cursor)
}

// forgetDone drops what is settled with everything before it.
func (s *session) forgetDone(cursor uint64) {
	for seq := range s.done {
		if seq <= cursor {
			delete(s.done, seq)
		}
	}
}

// moveTo makes the lane go on after a place, by reading.
func (s *session) moveTo(place uint64) {
	s.following, s.place = false, place
	s.epoch++
	s.notify()
}

// deliver takes an event from the feed; before is the place of the one that came before it. s.app.mu is held.
func (s *session) deliver(e *event, qos byte, ids []int, before uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.live:
	case qos == 0:
		s.client.send(s, &outgoing{event: e, subscriptions: ids})
	case !s.following || e.seq <= s.place: // the reader has it, or will
	case !s.room(e):
		s.moveTo(max(s.place, before))
		s.read()
	default:
		s.push(e, qos, ids)
		s.place = e.seq
	}
}

// read starts a reader, if one is needed and there is none.
func (s *session) read() {
	if s.reading || !s.reads() {
		return
	}
	s.reading = true
	s.server.running.Go(s.readOn)
}

// reads says whether a reader has something to do.
func (s *session) reads() bool { return s.live && !s.following && s.own.durable > 0 }

// readOn reads the log from the lane's place on, until the lane follows or the connection ends.
func (s *session) readOn() {
	ctx := s.server.ctx
	changed, unwatch := s.server.cfg.Store.WatchLog(s.app.id)
	defer unwatch()
	for resumed := true; ; resumed = false {
		s.mu.Lock()
		if !s.reads() || ctx.Err() != nil {
			s.reading = false
			s.mu.Unlock()
			return
		}
		epoch, place := s.epoch, s.place
		s.mu.Unlock()
		entries, err := s.server.cfg.Store.ReadLog(ctx, s.app.id, place, readBatch)
		switch {
		case err != nil:
			s.server.log.Warn("MQTT session can't read its events; trying again", "application_id", s.app.id, "client_id", shown(s.key.clientID), "err", err)
			t := time.NewTimer(retryPause)
			sleep(ctx, s, t.C)
			t.Stop()
		case len(entries) == 0:
			// The feed may have begun behind entries that this node has not heard of yet. Then this goes on until there is a newer one.
			if !s.catchUp(epoch) && !s.skipTrimmed(ctx, place, epoch) {
				sleep(ctx, s, changed)
			}
		default:
			if entries[0].Seq > place+1 && (resumed || s.server.cfg.Node == "") {
				s.noteLost(ctx, place, entries[0].Seq)
			}
			for i := range entries {
				if !s.offer(ctx, &entries[i], epoch) {
					break
				}
			}
		}
	}
}

// sleep ends with a signal, or when something about the session changes.
func sleep[T any](ctx context.Context, s *session, signal <-chan T) {
	select {
	case <-signal:
	case <-s.wake:
	case <-ctx.Done():
	}
}

// catchUp joins the feed if nothing lies between the lane's place and that of the feed.
func (s *session) catchUp(epoch int) bool {
	s.app.mu.Lock()
	defer s.app.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch != epoch || !s.live || s.app.feed == nil || s.app.position.Load() > s.place {
		return false
	}
	s.following = true
	return true
}

// offer sends an entry of the log to the client, if it is subscribed to it and does not have it yet, as soon as there is room. False: the lane has
// another place now.
func (s *session) offer(ctx context.Context, entry *messages.LogEntry, epoch int) bool {
	suffix, known := suffixes[entry.Type]
	e := eventOfEntry(entry, suffix)
	var topic []string
	if known {
		topic = topicOf(entry.Device.DeviceID, suffix)
	}
	for {
		s.mu.Lock()
		if !s.live || s.epoch != epoch {
			s.mu.Unlock()
			return false
		}
		qos, ids := byte(0), []int(nil)
		if known {
			qos, ids = s.own.match(e.seq, e.device, topic)
		}
		_, confirmed := s.done[e.seq]
		d := s.byID[packetID(e.seq)]
		settled := qos == 0 || confirmed || d != nil && d.seq == e.seq
		if settled || s.room(e) {
			if !settled {
				s.push(e, qos, ids)
			}
			s.place = max(s.place, e.seq)
			s.mu.Unlock()
			return true
		}
		s.mu.Unlock()
		select {
		case <-s.wake:
		case <-ctx.Done():
			return false
		}
	}
}

// skipTrimmed goes on at the end of a log that holds nothing after the lane's place any more. It knows that of a log without gaps only, that of a single
// node.
func (s *session) skipTrimmed(ctx context.Context, place uint64, epoch int) bool {
	if s.server.cfg.Node != "" {
		return false
	}
	first, _, err := s.server.cfg.Store.LogRange(ctx, s.app.id)
	if err != nil || first <= place+1 {
		return false
	}
	s.lost(first - place - 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch == epoch {
		s.place = max(s.place, first-1)
	}
	return true
}

// noteLost looks whether the log has dropped something between the lane's place and the next entry that there is.
func (s *session) noteLost(ctx context.Context, place, next uint64) {
	first, _, err := s.server.cfg.Store.LogRange(ctx, s.app.id)
	switch {
	case err != nil || first <= place+1:
	case s.server.cfg.Node == "":
		s.lost(next - place - 1)
	default: // the log of many nodes has gaps
		s.lost(1)
	}
}

// lost makes known that events are gone that the client may have been waiting for.
func (s *session) lost(n uint64) {
	s.server.metrics.dropped.WithLabelValues("retention").Add(float64(n))
	s.server.log.Warn("MQTT session was away for longer than events are kept; it goes on with the oldest there is",
		"application_id", s.app.id, "client_id", shown(s.key.clientID), "events_of_the_application", n)
}
