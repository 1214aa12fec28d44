package simulator

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/ipv4"

	"lorikeet/messages"
)

// Packet types of the Semtech UDP protocol, version 2.
const (
	protocolVersion = 2
	pushData        = 0
	pushAck         = 1
	pullData        = 2
	pullResp        = 3
	pullAck         = 4
	txAck           = 5
)

// NoTxAck as the answer to a TxPacket means that the radio gateway sends no TX_ACK at all.
const NoTxAck messages.TxError = messages.TxUnanswered

// GatewayConfig describes a radio gateway.
type GatewayConfig struct {
	EUI       messages.EUI64
	Server    string        // host:port of the server's Semtech UDP listener
	Others    []string      // listeners to move to, one after the other, when the present one leaves a PUSH_DATA or PULL_DATA unanswered
	Forget    bool          // on a move, PUSH_DATA that was not acknowledged is not sent again
	KeepAlive time.Duration // between two PULL_DATA; 0: 10 s
	Stat      time.Duration // between two "stat" reports; 0: none
	Counter   uint32        // value of the concentrator counter (tmst, µs) at the start
	GPS       bool          // adds "time" to each rxpk
	// Lead is how long before its air time a downlink must be there, else the answer is TOO_LATE.
	Lead time.Duration
	// OneTransmitter refuses downlinks that overlap on air with COLLISION_PACKET, as a real radio gateway does.
	OneTransmitter bool
	Seed           uint64
}

// TxPacket is a downlink that the server gave to a radio gateway.
type TxPacket struct {
	Immediate  bool
	Timestamp  uint32 // tmst, µs
	Frequency  uint32 // Hz
	DataRate   string
	PHYPayload []byte
}

// GatewayStats counts what a radio gateway sent and what was acknowledged.
type GatewayStats struct {
	Sent, Acknowledged  uint64 // frames, in PUSH_DATA
	Abandoned           uint64 // frames that were not acknowledged and will not be sent again
	Moves               uint64 // to another server
	PullData, PullAck   uint64
	Downlinks, Unparsed uint64 // PULL_RESP
	SendErrors          uint64
	Refused             map[messages.TxError]uint64 // downlinks, by what was answered; NO_TX_ACK: nothing
}

// Gateway is a radio gateway with a Semtech UDP packet forwarder. It is safe for concurrent use.
type Gateway struct {
	cfg      GatewayConfig
	servers  []*net.UDPAddr
	link     atomic.Pointer[link] // to the present server; replaced by keepAlive only
	start    time.Time
	transmit func(*Gateway, TxPacket, messages.TxError) messages.TxError
	deliver  func(*Gateway, TxPacket)

	mu        sync.Mutex
	counter   uint32 // tmst at start
	lastStamp uint32
	token     uint16
	frames    [1 << 16]uint8 // frames under each PUSH_DATA token that is not acknowledged
	buf       []byte
	batched   int
	rnd       *rand.Rand
	refused   map[messages.TxError]uint64
	busy      [][2]int64 // air times of accepted downlinks, µs since start
	waiting   waiting

	stats struct {
		sent, acked, abandoned, moves, pullData, pullAck, downlinks, unparsed, sendErrors atomic.Uint64
	}
	connected chan struct{} // closed at the first PULL_ACK
	once      sync.Once
	cancel    context.CancelFunc
	wg        sync.WaitGroup
}

// openGateway starts a radio gateway. transmit gets each downlink with what the queue says of it and decides on the TX_ACK; deliver
// gets those that go on air, after the TX_ACK has left.
func openGateway(ctx context.Context, cfg GatewayConfig, transmit func(*Gateway, TxPacket, messages.TxError) messages.TxError, deliver func(*Gateway, TxPacket)) (*Gateway, error) {
	if cfg.KeepAlive <= 0 {
		cfg.KeepAlive = 10 * time.Second
	}
	g := &Gateway{cfg: cfg, start: time.Now(), counter: cfg.Counter, lastStamp: cfg.Counter, transmit: transmit, deliver: deliver,
		rnd: rand.New(rand.NewPCG(cfg.Seed, binary.BigEndian.Uint64(cfg.EUI[:]))), connected: make(chan struct{}), refused: map[messages.TxError]uint64{}}
	for _, name := range append([]string{cfg.Server}, cfg.Others...) {
		addr, err := net.ResolveUDPAddr("udp", name)
		if err != nil {
			return nil, fmt.Errorf("address of the server %q: %w", name, err)
		}
		g.servers = append(g.servers, addr)
	}
	l, err := dialLink(g.servers[0])
	if err != nil {
		return nil, fmt.Errorf("radio gateway %s: %w", cfg.EUI, err)
	}
	ctx, g.cancel = context.WithCancel(ctx)
	g.open(l)
	g.wg.Add(1)
	go g.keepAlive(ctx)
	return g, nil
}

// EUI names the radio gateway.
func (g *Gateway) EUI() messages.EUI64 { return g.cfg.EUI }

// Stats gives the counts so far.
func (g *Gateway) Stats() GatewayStats {
	s := &g.stats
	g.mu.Lock()
	refused := maps.Clone(g.refused)
	g.mu.Unlock()
	return GatewayStats{Sent: s.sent.Load(), Acknowledged: s.acked.Load(), Abandoned: s.abandoned.Load(), Moves: s.moves.Load(), PullData: s.pullData.Load(), PullAck: s.pullAck.Load(),
		Downlinks: s.downlinks.Load(), Unparsed: s.unparsed.Load(), SendErrors: s.sendErrors.Load(), Refused: refused}
}

// WaitConnected waits until the server has answered a PULL_DATA: from then on it can send downlinks.
func (g *Gateway) WaitConnected(ctx context.Context) error {
	select {
	case <-g.connected:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("radio gateway %s: no PULL_ACK from %s: %w", g.cfg.EUI, g.cfg.Server, ctx.Err())
	}
}

// RestartCounter sets the concentrator counter to value, as a restart of the concentrator does.
func (g *Gateway) RestartCounter(value uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.counter = value - uint32(time.Since(g.start).Microseconds())
	g.lastStamp = value
}

// Close stops the radio gateway.
func (g *Gateway) Close() {
	g.cancel()
	g.wg.Wait()
}

// stamp gives a concentrator time that no other frame of this radio gateway has, so that a downlink's tmst names one uplink.
func (g *Gateway) stamp() uint32 {
	now := g.counter + uint32(time.Since(g.start).Microseconds())
	if int32(now-g.lastStamp) <= 0 {
		now = g.lastStamp + 1
	}
	g.lastStamp = now
	return now
}

// hear adds a frame to the present datagram and gives its tmst; heard is called with it before the frame leaves.
func (g *Gateway) hear(t Transmission, flush bool, heard func(tmst uint32)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	tmst := g.stamp()
	if heard != nil {
		heard(tmst)
	}
	if g.batched == 0 {
		g.buf = g.header(g.buf[:0], pushData)
		g.buf = append(g.buf, `{"rxpk":[`...)
	} else {
		g.buf = append(g.buf, ',')
	}
	g.buf = g.appendRxpk(g.buf, t, tmst)
	g.batched++
	if flush || len(g.buf) > 8<<10 || g.batched == math.MaxUint8 {
		g.flushLocked()
	}
}

// flush sends the frames that are batched.
func (g *Gateway) flush() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.flushLocked()
}

func (g *Gateway) flushLocked() {
	if g.batched == 0 {
		return
	}
	g.buf = append(g.buf, `]}`...)
	g.token++
	binary.LittleEndian.PutUint16(g.buf[1:], g.token)
	g.frames[g.token] = uint8(g.batched)
	g.stats.sent.Add(uint64(g.batched))
	if len(g.servers) > 1 {
		g.waiting.push(g.token, g.buf, time.Now())
	}
	g.batched = 0
	g.write(g.link.Load().push, g.buf)
}

func (g *Gateway) write(c *net.UDPConn, b []byte) {
	if _, err := c.Write(b); err != nil {
		g.stats.sendErrors.Add(1) // the server is away (ICMP) or the socket is closed: a radio gateway goes on
	}
}

func (g *Gateway) header(b []byte, kind byte) []byte {
	return append(append(b, protocolVersion, 0, 0, kind), g.cfg.EUI[:]...)
}

// appendRxpk writes one rxpk object by hand: encoding/json would cost more than the rest of an uplink.
func (g *Gateway) appendRxpk(b []byte, t Transmission, tmst uint32) []byte {
	b = append(b, `{"tmst":`...)
	b = strconv.AppendUint(b, uint64(tmst), 10)
	if g.cfg.GPS {
		b = append(b, `,"time":"`...)
		b = time.Now().UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z")
		b = append(b, '"')
	}
	b = append(b, `,"chan":`...)
	b = strconv.AppendUint(b, uint64(t.Frequency/200_000%8), 10)
	b = append(b, `,"rfch":0,"freq":`...)
	b = appendMHz(b, t.Frequency)
	b = append(b, `,"stat":1,"modu":"LORA","datr":"`...)
	b = append(b, t.DataRate...)
	b = append(b, `","codr":"4/5","rssi":-`...)
	b = strconv.AppendInt(b, int64(40+g.rnd.IntN(70)), 10)
	b = append(b, `,"lsnr":`...)
	b = strconv.AppendInt(b, int64(g.rnd.IntN(12)-1), 10)
	b = append(b, '.', '0'+byte(g.rnd.IntN(10)))
	b = append(b, `,"size":`...)
	b = strconv.AppendInt(b, int64(len(t.PHYPayload)), 10)
	b = append(b, `,"data":"`...)
	b = base64.StdEncoding.AppendEncode(b, t.PHYPayload)
	return append(b, `"}`...)
}

func appendMHz(b []byte, hz uint32) []byte {
	b = strconv.AppendUint(b, uint64(hz/1_000_000), 10)
	b = append(b, '.')
	for f, digit := hz%1_000_000, uint32(100_000); digit > 0; digit /= 10 {
		b = append(b, '0'+byte(f/digit%10))
	}
	return b
}

// readPush counts the PUSH_ACKs. It lets some gather before it reads again: at thousands of uplinks a second the wake-ups would
// cost more CPU than the reading.
func (g *Gateway) readPush(conn *net.UDPConn) {
	defer g.wg.Done()
	c := ipv4.NewPacketConn(conn) // ReadBatch is the same for IPv6
	batch := make([]ipv4.Message, 32)
	for i := range batch {
		batch[i].Buffers = [][]byte{make([]byte, 64)}
	}
	for {
		n, err := c.ReadBatch(batch, 0)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		g.mu.Lock()
		for _, m := range batch[:max(n, 0)] {
			if b := m.Buffers[0]; m.N >= 4 && b[3] == pushAck {
				token := binary.LittleEndian.Uint16(b[1:])
				g.stats.acked.Add(uint64(g.frames[token]))
				g.frames[token] = 0
				g.waiting.acknowledged(token)
			}
		}
		g.mu.Unlock()
		if n < len(batch) {
			time.Sleep(5 * time.Millisecond)
		}
	}
}

func (g *Gateway) readPull(conn *net.UDPConn) {
	defer g.wg.Done()
	b := make([]byte, 64<<10)
	for {
		n, err := conn.Read(b)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil || n < 4:
			continue
		case b[3] == pullAck:
			g.stats.pullAck.Add(1)
			g.mu.Lock()
			g.waiting.pull = time.Time{}
			g.mu.Unlock()
			g.once.Do(func() { close(g.connected) })
		case b[3] == pullResp:
			g.downlink(conn, b[:n])
		}
	}
}

func (g *Gateway) keepAlive(ctx context.Context) {
	defer g.wg.Done()
	defer func() { g.link.Load().close() }()
	pull := time.NewTicker(g.cfg.KeepAlive)
	defer pull.Stop()
	var stat <-chan time.Time
	if g.cfg.Stat > 0 {
		t := time.NewTicker(g.cfg.Stat)
		defer t.Stop()
		stat = t.C
	}
	var look <-chan time.Time
	if len(g.servers) > 1 {
		t := time.NewTicker(ackTimeout / 8)
		defer t.Stop()
		look = t.C
	}
	for g.sendPull(); ; {
		select {
		case <-ctx.Done():
			return
		case <-pull.C:
			g.sendPull()
		case now := <-stat:
			g.sendStat(now)
		case now := <-look:
			g.moveIfSilent(now)
		}
	}
}

func (g *Gateway) sendPull() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sendPullLocked()
}

func (g *Gateway) sendPullLocked() {
	b := g.header(make([]byte, 0, 12), pullData)
	g.token++
	binary.LittleEndian.PutUint16(b[1:], g.token)
	if g.waiting.pull.IsZero() {
		g.waiting.pull = time.Now()
	}
	g.stats.pullData.Add(1)
	g.write(g.link.Load().pull, b)
}

func (g *Gateway) sendStat(now time.Time) {
	s := g.Stats()
	ratio := 100.0
	if s.Sent > 0 {
		ratio = 100 * float64(s.Acknowledged) / float64(s.Sent)
	}
	b := g.header(nil, pushData)
	b = fmt.Appendf(b, `{"stat":{"time":"%s","rxnb":%d,"rxok":%d,"rxfw":%d,"ackr":%.1f,"dwnb":%d,"txnb":%d,"pfrm":"simulated"}}`,
		now.UTC().Format("2006-01-02 15:04:05 GMT"), s.Sent, s.Sent, s.Sent, ratio, s.Downlinks, s.Downlinks)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.token++
	binary.LittleEndian.PutUint16(b[1:], g.token)
	g.frames[g.token] = 0
	g.write(g.link.Load().push, b)
}

// downlink answers a PULL_RESP and hands the packet on.
func (g *Gateway) downlink(from *net.UDPConn, b []byte) {
	g.stats.downlinks.Add(1)
	p, err := parseTxpk(b[4:])
	if err != nil {
		g.stats.unparsed.Add(1)
		return
	}
	result := g.transmit(g, p, g.schedule(p))
	if result != messages.TxOK {
		g.mu.Lock()
		g.refused[result]++
		g.mu.Unlock()
	}
	if result != NoTxAck {
		ack := g.header(nil, txAck)
		ack[1], ack[2] = b[1], b[2]
		if result != messages.TxOK {
			ack = fmt.Appendf(ack, `{"txpk_ack":{"error":%q}}`, string(result))
		} else {
			ack = append(ack, `{"txpk_ack":{"error":"NONE"}}`...)
		}
		g.write(from, ack)
	}
	if result == messages.TxOK || result == NoTxAck {
		g.deliver(g, p)
	}
}

// schedule decides as a just-in-time queue does.
func (g *Gateway) schedule(p TxPacket) messages.TxError {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Since(g.start).Microseconds()
	at := now
	if !p.Immediate {
		ahead := int64(int32(p.Timestamp - g.counter - uint32(now)))
		at += ahead
		switch {
		case ahead < g.cfg.Lead.Microseconds():
			return messages.TxTooLate
		case ahead > 60_000_000:
			return messages.TxTooEarly
		}
	}
	if !g.cfg.OneTransmitter {
		return messages.TxOK
	}
	end := at + airTime(p).Microseconds()
	kept := g.busy[:0]
	for _, b := range g.busy {
		if b[1] > now {
			kept = append(kept, b)
		}
	}
	g.busy = kept
	for _, b := range g.busy {
		if at < b[1] && b[0] < end {
			return messages.TxCollisionPacket
		}
	}
	g.busy = append(g.busy, [2]int64{at, end})
	return messages.TxOK
}
