package broker

import (
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxPacket is the size of a packet that a client may send, in bytes: a downlink request of gateways.MaxDownlinkRequest and its header.
	maxPacket = 1<<20 + 4096
	// maxConnectPacket limits the first packet, of someone unknown.
	maxConnectPacket = 64 << 10
	// chunkSize is what is written at once, within writeTimeout, or the client is cut. Even a slow link makes it.
	chunkSize = 64 << 10
	// fairShare of the memory is left to each client when all of it is in use.
	fairShare = 64 << 10
	// closingDeadline is for what is still to be written when a connection is closed, and lingering for the client to take notice.
	closingDeadline = time.Second
	lingering       = 250 * time.Millisecond
	// smallBuffer is the only one that a connection keeps when nothing is to be written.
	smallBuffer = 2 << 10
)

var (
	errSlow   = errors.New("the client does not read what it is sent")
	errClosed = errors.New("connection is closed")

	alreadyOver = time.Unix(1, 0)
)

// memory is what is held for all clients, and may be.
type memory struct {
	used  atomic.Int64
	limit int64
}

// allows says whether someone who holds that much may have n bytes more.
func (m *memory) allows(holds, n int) bool {
	return holds+n <= fairShare || m.used.Load()+int64(n) <= m.limit
}

// conn stands between the MQTT server and a socket. Write never blocks: it fills a buffer that a goroutine, alive only while there is something to
// write, empties in as few system calls as it can. A client that does not read is cut once the buffer is full. Deadlines for reading are its own,
// since those of the MQTT server overflow at a keep-alive of 43691 s and fall on writes as well.
type conn struct {
	net.Conn
	memory       *memory
	limit        int // of bytes not yet written
	writeTimeout time.Duration
	running      *sync.WaitGroup // counts the flushing goroutine. It counts the reader too, who is there until the connection is closed

	keepAlive atomic.Int64 // the longest silence of the client, a time.Duration; 0: no limit. Before the login: -1, the deadline stays
	intake    intake

	mu      sync.Mutex
	pending [][]byte // buffers to be written, one after the other
	small   []byte   // of smallBuffer, when it is not in use
	queued  int      // bytes of pending and of the write that is going on
	writing bool     // the flushing goroutine is alive
	closing bool     // close once all is written
	closed  bool
	slow    bool          // closed since the client does not read
	drained chan struct{} // gets something when a write is done
}

func newConn(c net.Conn, m *memory, limit int, writeTimeout time.Duration, running *sync.WaitGroup) *conn {
	out := &conn{Conn: c, memory: m, limit: limit, writeTimeout: writeTimeout, running: running, drained: make(chan struct{}, 1)}
	out.keepAlive.Store(-1)
	return out
}

// Read gives packets that were checked. Nothing more is read once the connection is to end.
func (c *conn) Read(p []byte) (int, error) {
	if c.isClosing() {
		return 0, errClosed
	}
	return c.intake.read(c.Conn, p)
}

// SetDeadline is called by the MQTT server before each packet it reads. The time it asks for is replaced by one and a half times the keep-alive.
func (c *conn) SetDeadline(time.Time) error {
	switch d := time.Duration(c.keepAlive.Load()); {
	case d < 0:
		return nil
	case d == 0:
		return c.SetReadDeadline(time.Time{})
	default:
		return c.SetReadDeadline(time.Now().Add(d + d/2))
	}
}

// SetReadDeadline does nothing on a closing connection, whose reader is to end.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.closed {
		return errClosed
	}
	return c.Conn.SetReadDeadline(t)
}

// Write takes p over into the buffer.
func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	to, err := c.reserve(len(p))
	if err != nil {
		return 0, err
	}
	*to = append(*to, p...)
	return len(p), nil
}

// publish writes a PUBLISH packet.
func (c *conn) publish(f *publishFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	to, err := c.reserve(f.size())
	if err != nil {
		return err
	}
	*to = f.append(*to)
	return nil
}

// reserve gives a buffer with room for n bytes, which the caller must fill before it gives c.mu back, and sees to it that they are written. c.mu is held.
func (c *conn) reserve(n int) (*[]byte, error) {
	if c.closing || c.closed {
		return nil, errClosed
	}
	if c.queued+n > c.limit || !c.memory.allows(c.queued, n) {
		c.slow = true
		c.abort()
		return nil, errSlow
	}
	c.queued += n
	c.memory.used.Add(int64(n))
	if !c.writing {
		c.writing = true
		c.running.Go(c.flush)
	}
	last := len(c.pending) - 1
	if last < 0 || len(c.pending[last])+n > cap(c.pending[last]) {
		c.pending = append(c.pending, c.buffer(n))
		last++
	}
	return &c.pending[last], nil
}

var chunks = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// buffer gives an empty one for n bytes or more. c.mu is held.
func (c *conn) buffer(n int) (b []byte) {
	switch {
	case n > chunkSize:
		return make([]byte, 0, n)
	case n > smallBuffer || len(c.pending) > 0:
		return chunks.Get().(*[chunkSize]byte)[:0]
	case c.small == nil:
		return make([]byte, 0, smallBuffer)
	}
	b, c.small = c.small, nil
	return b
}

// recycle takes a buffer back. c.mu is held.
func (c *conn) recycle(b []byte) {
	switch cap(b) {
	case chunkSize:
		chunks.Put((*[chunkSize]byte)(b[:chunkSize]))
	case smallBuffer:
		c.small = b[:0]
	}
}

func (c *conn) flush() {
	for {
		c.mu.Lock()
		if c.closed || len(c.pending) == 0 {
			closing := c.closing && !c.closed
			c.writing = closing // what comes from now on is refused
			c.mu.Unlock()
			if closing {
				c.hangUp()
			}
			return
		}
		b := c.pending[0]
		c.pending = slices.Delete(c.pending, 0, 1)
		c.mu.Unlock()
		err := c.writeAll(b)
		c.mu.Lock()
		switch {
		case c.closed:
		case err != nil:
			c.slow = c.slow || errors.Is(err, errSlow)
			c.abort()
		default:
			c.queued -= len(b)
			c.memory.used.Add(-int64(len(b)))
			c.recycle(b)
		}
		c.mu.Unlock()
		select {
		case c.drained <- struct{}{}:
		default:
		}
	}
}

// hangUp closes the socket once the client has seen what was written last: closing it while there is something to read would reset the connection, and
// the client might never see why.
func (c *conn) hangUp() {
	if t, ok := c.Conn.(interface{ CloseWrite() error }); ok && t.CloseWrite() == nil {
		_ = c.Conn.SetReadDeadline(time.Now().Add(lingering))
		_, _ = io.Copy(io.Discard, io.LimitReader(c.Conn, maxPacket))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.abort()
}

// congested says whether half of the buffer is full.
func (c *conn) congested() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queued > c.limit/2
}

func (c *conn) writeAll(p []byte) error {
	for len(p) > 0 {
		n := min(len(p), chunkSize)
		if err := c.armWrite(); err != nil {
			return err
		}
		if _, err := c.Conn.Write(p[:n]); err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				return errSlow
			}
			return err
		}
		p = p[n:]
	}
	return nil
}

// armWrite gives the next write its time: a client that is to be closed gets no more than closingDeadline in all.
func (c *conn) armWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return nil
	}
	return c.Conn.SetWriteDeadline(time.Now().Add(c.writeTimeout))
}

// Close ends reading at once, and the connection once what was written before is on its way.
func (c *conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.closed {
		return nil
	}
	c.closing = true
	_ = c.Conn.SetReadDeadline(alreadyOver)
	if !c.writing {
		c.writing = true
		c.running.Go(c.flush)
	}
	return c.Conn.SetWriteDeadline(time.Now().Add(closingDeadline))
}

// abort closes the socket now and gives the memory back. c.mu is held.
func (c *conn) abort() {
	if c.closed {
		return
	}
	c.closed = true
	if below := admittedBelow(c.Conn); below != nil && c.slow {
		_ = below.SetLinger(0) // what the kernel holds for a client that does not read is of no use
	}
	_ = c.Conn.Close()
	c.memory.used.Add(-int64(c.queued))
	c.queued, c.pending, c.small = 0, nil, nil
}

func (c *conn) isClosing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing || c.closed
}

// wasSlow says whether the connection ended since the client did not read.
func (c *conn) wasSlow() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.slow
}
