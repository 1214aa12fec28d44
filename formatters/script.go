package formatters

import (
	"container/list"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"lorikeet/messages"
)

const (
	maxScripts      = 8192
	maxScriptSource = 64 << 20 // bytes of all scripts that are remembered

	strikesToPark = 3 // times that a script had to be stopped, until it is parked
	parkFirst     = 5 * time.Second
	parkLongest   = 10 * time.Minute
	forgiveAfter  = 100 // calls in a row that end by themselves
	slowCall      = 20 * time.Millisecond
)

// script is what the server knows of a formatter's source text. All but key, language, id and hash is guarded by the Set.
type script struct {
	key      messages.Formatter
	language language
	id       uint64 // of the source, for workers; never given twice
	hash     string // for logs

	waiting []*waiter
	running int

	proven      bool          // it has ended by itself
	took        time.Duration // moving average
	strikes     int           // times it had to be stopped
	ended       int           // calls that ended by themselves since the last strike
	parkedUntil time.Time
	lastStop    error // why it was stopped last
}

// risky scripts share all slots but one.
func (s *script) risky() bool { return !s.proven || s.strikes > 0 || s.took > slowCall }

func (s *script) parked(now time.Time) bool { return now.Before(s.parkedUntil) }

// settle remembers how a call went: stopped is why it had to be, or nil. It says whether the script is parked now.
func (s *script) settle(now time.Time, took time.Duration, stopped error) (parked bool) {
	s.took += (took - s.took) / 8
	if stopped == nil {
		s.proven = true
		if s.ended++; s.ended >= forgiveAfter {
			s.strikes = 0
		}
		return false
	}
	s.strikes, s.ended, s.lastStop = s.strikes+1, 0, stopped
	if s.strikes < strikesToPark {
		return false
	}
	s.parkedUntil = now.Add(min(parkFirst<<min(s.strikes-strikesToPark, 20), parkLongest))
	return true
}

func (s *script) parkedError() error {
	return messages.Errorf(messages.CodePrecondition, "formatter_parked", "the script is not run before %s, because it had to be stopped %d times (%w): correct it",
		s.parkedUntil.UTC().Format(time.RFC3339), s.strikes, s.lastStop)
}

// scripts are remembered by their text; those that were not used for long are forgotten.
type scripts struct {
	known  map[messages.Formatter]*list.Element
	recent *list.List // of *script, the last used first
	size   int
	lastID uint64
}

func newScripts() *scripts {
	return &scripts{known: make(map[messages.Formatter]*list.Element), recent: list.New()}
}

func (s *scripts) get(f messages.Formatter, l language) *script {
	if e, ok := s.known[f]; ok {
		s.recent.MoveToFront(e)
		return e.Value.(*script)
	}
	sum := sha256.Sum256([]byte(f.Parameter))
	s.lastID++
	added := &script{key: f, language: l, id: s.lastID, hash: hex.EncodeToString(sum[:6])}
	s.known[f] = s.recent.PushFront(added)
	s.size += len(f.Parameter)
	for e := s.recent.Back(); e != s.recent.Front() && (s.size > maxScriptSource || s.recent.Len() > maxScripts); {
		previous := e.Prev()
		if old := e.Value.(*script); old.running == 0 && len(old.waiting) == 0 {
			s.recent.Remove(e)
			delete(s.known, old.key)
			s.size -= len(old.key.Parameter)
		}
		e = previous
	}
	return added
}

func (s *scripts) parked(now time.Time) int {
	n := 0
	for e := s.recent.Front(); e != nil; e = e.Next() {
		if e.Value.(*script).parked(now) {
			n++
		}
	}
	return n
}
