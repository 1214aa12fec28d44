package semtechudp

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/net/ipv4"
	"golang.org/x/time/rate"

	"lorikeet/messages"
)

const (
	batchSize        = 32
	maxDatagram      = 1 << 16
	maxInFlightBytes = 64 << 20
)

// job is the body of one PUSH_DATA that was acknowledged.
type job struct {
	gw       *radioGateway
	id       string
	location *messages.Location
	body     []byte
	at       time.Time
	own      bool // from the IP address downlinks go to
}

func (s *Server) read(ctx context.Context, conn *net.UDPConn) {
	batch := make([]ipv4.Message, batchSize)
	for i := range batch {
		batch[i].Buffers = [][]byte{make([]byte, maxDatagram)}
	}
	// Works for IPv6 and dual-stack sockets as well: only the batch call is used.
	reader := ipv4.NewPacketConn(conn)
	for ctx.Err() == nil {
		n, err := reader.ReadBatch(batch, 0)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			s.cfg.Log.Error("Semtech UDP read failed; trying again", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		now := s.cfg.Clock()
		for i := range batch[:n] {
			addr, ok := batch[i].Addr.(*net.UDPAddr)
			if !ok {
				continue
			}
			from := unmap(addr.AddrPort())
			reply, ok := s.receive(batch[i].Buffers[0][:batch[i].N], from, now)
			if !ok {
				continue
			}
			if _, err := conn.WriteToUDPAddrPort(reply[:], from); err != nil {
				s.cfg.Log.Debug("Semtech UDP acknowledgement not sent", "err", err)
			}
		}
	}
}

// unmap makes the IPv4 address of a dual-stack socket comparable with others.
func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// receive handles one datagram as far as it goes without waiting or parsing JSON, and gives the acknowledgement to send.
func (s *Server) receive(datagram []byte, from netip.AddrPort, now time.Time) (reply [4]byte, ok bool) {
	h, body, reason := parseHeader(datagram)
	if reason != "" {
		s.dropDatagram(reason)
		return reply, false
	}
	switch h.kind {
	case pushData:
		s.metrics.push.Inc()
	case pullData:
		s.metrics.pull.Inc()
	case txAck:
		s.metrics.acks.Inc()
		s.acknowledged(h, body, from, now)
		return reply, false
	}
	gw, id, location, reason := s.admit(h.eui, len(body), from, now)
	if reason != "" {
		s.dropDatagram(reason)
		return reply, false
	}
	if h.kind == pullData {
		accepted, first := gw.pulled(from, h.version, now, s.cfg.AddressChangeBlock)
		if !accepted {
			s.dropDatagram(dropAddressChange)
			if first {
				s.cfg.Log.Warn("PULL_DATA from another address while the radio gateway is connected; refused", "gateway_eui", h.eui, "address", from.String())
			}
			return reply, false
		}
		if first {
			s.tellConnected(h.eui, from)
		}
		if s.cfg.Suspended() {
			return reply, false
		}
		s.cfg.Pulled(h.eui)
		return ack(h), true
	}
	own := gw.pushed(from.Addr(), h.version, now)
	s.enqueue(job{gw: gw, id: id, location: location, body: body, at: now, own: own})
	return ack(h), !s.cfg.Suspended()
}

// tellConnected logs that the downlink path of a radio gateway is there. One that is not registered has its line when it is: EUIs can be made up.
func (s *Server) tellConnected(eui messages.EUI64, from netip.AddrPort) {
	if id, _, known := s.cfg.Registry.RadioGateway(eui); known {
		s.cfg.Log.Info("radio gateway is connected", "gateway_id", id, "gateway_eui", eui, "address", from.String())
	}
}

// admit says which radio gateway eui is, or why its datagram with a body of size bytes is dropped.
func (s *Server) admit(eui messages.EUI64, size int, from netip.AddrPort, now time.Time) (gw *radioGateway, id string, location *messages.Location, reason string) {
	id, location, known := s.cfg.Registry.RadioGateway(eui)
	if !known && !s.cfg.AutoRegister {
		return nil, "", nil, dropUnknown
	}
	gw = s.table.get(eui)
	if gw == nil {
		if !known && !s.table.allowUnknown(from.Addr(), now, rate.Limit(s.cfg.UnknownRate), s.cfg.UnknownBurst) {
			return nil, "", nil, dropUnknownRate
		}
		if gw = s.table.add(eui, known, s.cfg.MaxRate, now); gw == nil {
			return nil, "", nil, dropUnknownRate
		}
	}
	if !gw.allow(from.Addr(), size, now) {
		return nil, "", nil, dropRate
	}
	if !known {
		id = "eui-" + hex.EncodeToString(eui[:])
		if gw.wantsRegistration(now) {
			select {
			case s.registrations <- gw:
			default:
				gw.registrationFailed()
			}
		}
	}
	return gw, id, location, ""
}

func (s *Server) acknowledged(h header, body []byte, from netip.AddrPort, now time.Time) {
	gw := s.table.get(h.eui)
	if gw == nil {
		s.dropDatagram(dropUnmatched)
		return
	}
	if !gw.allow(from.Addr(), len(body), now) {
		s.dropDatagram(dropRate)
		return
	}
	if reason := gw.answered(h.token, from.Addr(), body, now); reason != "" {
		s.dropDatagram(reason)
	}
}

// enqueue hands j to the worker of its radio gateway, or drops it if too much is in flight.
func (s *Server) enqueue(j job) {
	if s.inFlightBytes.Load()+int64(len(j.body)) > maxInFlightBytes {
		s.dropDatagram(dropInFlight)
		return
	}
	j.body = bytes.Clone(j.body)
	// The last bytes of an EUI are a serial number, so they spread well.
	eui := j.gw.eui
	queue := s.queues[(int(eui[7])^int(eui[6])<<8)%len(s.queues)]
	s.inFlight.Add(1)
	s.inFlightBytes.Add(int64(len(j.body)))
	select {
	case queue <- j:
	default:
		s.finished(j)
		s.dropDatagram(dropInFlight)
	}
}

func (s *Server) finished(j job) {
	s.inFlight.Add(-1)
	s.inFlightBytes.Add(-int64(len(j.body)))
}

func (s *Server) work(queue <-chan job) {
	ids := mathrand.NewChaCha8(s.seed())
	for j := range queue {
		s.process(j, ids)
		s.finished(j)
	}
}

func (s *Server) seed() (seed [32]byte) {
	s.random.Lock()
	defer s.random.Unlock()
	_, _ = io.ReadFull(s.cfg.Random, seed[:])
	return seed
}

// process parses the body of one PUSH_DATA and hands on what is in it.
func (s *Server) process(j job, ids *mathrand.ChaCha8) {
	doc, _ := scan(trimLeft(j.body))
	if doc.kind != object {
		s.dropDatagram(dropBody)
		return
	}
	var p rxpk
	c := walk(doc)
	for c.next() {
		switch string(c.key) {
		case "rxpk":
			s.processPackets(j, c.val, &p, ids)
		case "stat":
			for m := each(c.val); m.next(); {
				st, ok := parseStatus(m.val, j.gw.eui, j.at)
				if !ok {
					s.dropDatagram(dropBody)
					continue
				}
				j.gw.reported(st)
				s.cfg.Sink.HandleStatus(st)
			}
		}
	}
	if c.bad {
		s.dropDatagram(dropBody)
	}
}

func (s *Server) processPackets(j job, list value, p *rxpk, ids *mathrand.ChaCha8) {
	n := 0
	c := each(list)
	for c.next() {
		if n++; n > maxRxpk {
			s.dropFrame(dropTooMany)
			return
		}
		if reason := p.parse(c.val, j.at); reason != "" {
			s.dropFrame(reason)
			continue
		}
		f := p.frame(j.gw, j.id, j.location, j.at, correlationID(j.at, ids))
		j.gw.received(&f, j.own)
		s.metrics.frames.Inc()
		s.cfg.Sink.HandleFrame(f)
	}
	if c.bad {
		s.dropFrame(dropJSON)
	}
}

func correlationID(at time.Time, random *mathrand.ChaCha8) string {
	const prefix = "gs:uplink:"
	var id ulid.ULID
	_, _ = random.Read(id[6:])
	_ = id.SetTime(ulid.Timestamp(at)) // fails after the year 10889
	var b [len(prefix) + ulid.EncodedSize]byte
	copy(b[:], prefix)
	_ = id.MarshalTextTo(b[len(prefix):])
	return string(b[:])
}

func (s *Server) dropDatagram(reason string) {
	s.metrics.datagramsDropped.WithLabelValues(reason).Inc()
}

func (s *Server) dropFrame(reason string) { s.metrics.framesDropped.WithLabelValues(reason).Inc() }

// register has unknown radio gateways registered, away from the read loop since it may take long.
func (s *Server) register(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case gw := <-s.registrations:
			if err := s.cfg.Registry.Register(ctx, gw.eui); err != nil && ctx.Err() == nil {
				s.cfg.Log.Warn("new radio gateway not registered; trying again when it sends", "gateway_eui", gw.eui, "err", err)
			} else if err == nil {
				s.cfg.Log.Info("radio gateway is registered on first sight", "gateway_eui", gw.eui)
			}
		}
	}
}

func (s *Server) sweep(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.table.sweep(s.cfg.Clock())
		}
	}
}
