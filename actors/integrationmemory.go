package actors

import (
	"slices"
	"sync"

	"lorikeet/messages"
)

const (
	rememberedAttempts = 200 // of one integration, whatever came of them
	rememberedFailures = 100 // of one integration, beside the above: successes must not push them out
	maxAttemptError    = 512 // bytes
)

// integrationMemory is what a node has in mind of an integration while it runs it, over changes of its configuration.
type integrationMemory struct {
	poke chan struct{} // there is something in redrive

	mu                            sync.Mutex
	attempts, failures            attemptRing
	delivered, failed, dead, lost uint64
	redrive                       []messages.DeadLetter // wait to be taken
	kept                          int                   // dead letters in the store; -1: not counted yet
	recalled                      bool                  // what is remembered of former nodes and processes is in here
}

func newIntegrationMemory() *integrationMemory {
	return &integrationMemory{
		poke: make(chan struct{}, 1), attempts: attemptRing{size: rememberedAttempts}, failures: attemptRing{size: rememberedFailures}, kept: -1,
	}
}

// remember takes the tries of one request.
func (m *integrationMemory) remember(attempts []messages.DeliveryAttempt) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range attempts {
		if len(a.Error) > maxAttemptError {
			a.Error = a.Error[:maxAttemptError]
		}
		if last := m.failures.newest(); last != nil && last.Error == a.Error {
			a.Error = last.Error // an endpoint that is down always says the same: one copy is enough
		}
		switch a.Outcome {
		case messages.AttemptDelivered:
			m.delivered++
		case messages.AttemptDeadLetter:
			m.dead++
		}
		m.attempts.add(a)
		if a.Outcome != messages.AttemptDelivered {
			m.failures.add(a)
		}
	}
	if len(attempts) > 0 && attempts[0].Outcome != messages.AttemptDelivered {
		m.failed++
	}
}

func (m *integrationMemory) lose(n uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lost += n
}

func (m *integrationMemory) counts() (delivered, failed, dead, lost uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.delivered, m.failed, m.dead, m.lost
}

// page gives tries, newest first. Failures go further back than the others.
func (m *integrationMemory) page(q messages.AttemptQuery) messages.AttemptPage {
	m.mu.Lock()
	defer m.mu.Unlock()
	from := &m.attempts
	if q.Outcome != "" && q.Outcome != messages.AttemptDelivered {
		from = &m.failures
	}
	page := messages.AttemptPage{Attempts: []messages.DeliveryAttempt{}}
	for a := range from.newestFirst {
		if q.Outcome != "" && q.Outcome != a.Outcome || q.DeviceID != "" && q.DeviceID != a.DeviceID || q.EventID != "" && q.EventID != a.EventID {
			continue
		}
		if page.Total++; page.Total > q.Skip && len(page.Attempts) < q.Limit {
			page.Attempts = append(page.Attempts, a)
		}
	}
	return page
}

// askRedrive hands dead letters to the runner.
func (m *integrationMemory) askRedrive(letters []messages.DeadLetter) {
	m.mu.Lock()
	m.redrive = append(m.redrive, letters...)
	m.mu.Unlock()
	select {
	case m.poke <- struct{}{}:
	default:
	}
}

func (m *integrationMemory) takeRedrive() []messages.DeadLetter {
	m.mu.Lock()
	defer m.mu.Unlock()
	letters := m.redrive
	m.redrive = nil
	return letters
}

// waiting is the number of dead letters that no runner has taken yet.
func (m *integrationMemory) waiting() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.redrive)
}

// attemptRing holds the newest tries.
type attemptRing struct {
	size int
	all  []messages.DeliveryAttempt
	next int // where the next one goes, once the ring is full
}

func (r *attemptRing) add(a messages.DeliveryAttempt) {
	if len(r.all) < r.size {
		r.all = append(r.all, a)
		return
	}
	r.all[r.next] = a
	r.next = (r.next + 1) % r.size
}

func (r *attemptRing) newest() *messages.DeliveryAttempt {
	if len(r.all) == 0 {
		return nil
	}
	return &r.all[(r.next+len(r.all)-1)%len(r.all)]
}

func (r *attemptRing) newestFirst(yield func(messages.DeliveryAttempt) bool) {
	for _, part := range [][]messages.DeliveryAttempt{r.all[:r.next], r.all[r.next:]} {
		for _, a := range slices.Backward(part) {
			if !yield(a) {
				return
			}
		}
	}
}
