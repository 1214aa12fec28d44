package mqttclient

import "sync"

const (
	breaksBelieved = 5
	maxSuspects    = 1000
)

// suspects finds events that the server does not take. MQTT 3.1.1 has no answer for "too large" but the end of the connection, which may have any
// other reason too. So an event is to blame only if it is larger than all that the server has confirmed, and the connection broke under it several
// times with others getting through in between.
type suspects struct {
	mu      sync.Mutex
	largest int // bytes
	passed  uint64
	all     map[string]suspect // by event id
}

type suspect struct {
	breaks int
	passed uint64 // of suspects, at the last break
}

// confirmed notes an event that the server has.
func (s *suspects) confirmed(id string, size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.largest = max(s.largest, size)
	s.passed++
	delete(s.all, id)
}

// broke notes that the connection broke under an event, and says whether the event is to blame.
func (s *suspects) broke(id string, size int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, known := s.all[id]
	switch {
	case size <= s.largest || known && before.passed == s.passed:
		return false
	case s.all == nil || !known && len(s.all) >= maxSuspects:
		s.all = map[string]suspect{}
	}
	s.all[id] = suspect{breaks: before.breaks + 1, passed: s.passed}
	if before.breaks+1 < breaksBelieved {
		return false
	}
	delete(s.all, id)
	return true
}
