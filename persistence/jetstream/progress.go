package jetstream

import (
	"context"
	"sync"
)

// progress says how far a follower has come in its stream.
type progress struct {
	pmu     sync.Mutex
	changed chan struct{} // closed and made anew when anything below changes
	at      uint64        // everything up to this sequence was seen
	wanted  uint64        // the newest sequence that is known to be there
	known   bool          // wanted includes what there was at the beginning
	err     error         // why the follower ended
	begun   func()        // called once when known; may be nil
}

func (p *progress) init() { p.changed = make(chan struct{}) }

// wake tells those who wait. The caller holds pmu.
func (p *progress) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// wrote says that this node has written a message.
func (p *progress) wrote(seq uint64) {
	p.pmu.Lock()
	defer p.pmu.Unlock()
	p.wanted = max(p.wanted, seq)
}

// begin says which message was the last one when the follower began.
func (p *progress) begin(seq uint64) {
	p.pmu.Lock()
	p.wanted, p.known = max(p.wanted, seq), true
	p.wake()
	p.pmu.Unlock()
	if p.begun != nil {
		p.begun()
	}
}

func (p *progress) reached(seq uint64) {
	p.pmu.Lock()
	defer p.pmu.Unlock()
	p.at = seq
	p.wake()
}

// done says whether a follower that has seen seq has seen all that there was at the beginning.
func (p *progress) done(seq uint64) bool {
	p.pmu.Lock()
	defer p.pmu.Unlock()
	return p.known && seq >= p.wanted
}

func (p *progress) fail(err error) {
	p.pmu.Lock()
	defer p.pmu.Unlock()
	if p.err = err; err == nil {
		p.err = errClosed
	}
	p.wake()
}

// await waits until the follower has seen seq, and everything that was known to be there when it was called or when the follower began.
func (p *progress) await(ctx context.Context, seq uint64) error {
	p.pmu.Lock()
	defer p.pmu.Unlock()
	begun := p.known
	seq = max(seq, p.wanted)
	for {
		if !begun && p.known {
			begun = true
			seq = max(seq, p.wanted)
		}
		switch {
		case p.err != nil:
			return p.err
		case begun && p.at >= seq:
			return nil
		}
		changed := p.changed
		p.pmu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			p.pmu.Lock()
			return unavailable("follow the registry", nil, ctx)
		}
		p.pmu.Lock()
	}
}
