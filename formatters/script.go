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

	slowCall = 20 * time.Millisecond
)

// script is what the server knows of a formatter's source text. All but key, language, id and hash is guarded by the Set.
type script struct {
	key      messages.Formatter
	language language
	id       uint64 // of the source, for workers; never given twice
	hash     string // for logs

	waiting []*waiter
	running int

	proven    bool          // it has ended by itself
	took      time.Duration // moving average
	conduct   conduct
	offenders map[messages.DeviceID]*conduct // devices whose calls had to be stopped
}

// risky scripts share all slots but one.
func (s *script) risky() bool { return !s.proven || s.conduct.strikes > 0 || s.took > slowCall }

// refused says why calls for a device are not run now, if they are not.
func (s *script) refused(now time.Time, device messages.DeviceID) error {
	if s.conduct.parked(now) {
		return s.conduct.refusal("")
	}
	if o := s.offenders[device]; o != nil && o.parked(now) {
		return o.refusal(" for this device")
	}
	return nil
}

// settle remembers how a call went: stopped is why it had to be, or nil. It says whether the script is parked now, for this device or for all.
func (s *script) settle(now time.Time, device messages.DeviceID, took time.Duration, stopped error) (parked bool) {
	s.took += (took - s.took) / 8
	o := s.offenders[device]
	if stopped == nil {
		s.proven = true
		s.conduct.end(scriptForgives)
		if o != nil {
			if o.end(deviceForgives); o.strikes == 0 {
				delete(s.offenders, device)
			}
		}
		return false
	}
	parked = s.conduct.stop(now, stopped)
	if device == (messages.DeviceID{}) {
		return parked
	}
	if o == nil {
		o = s.watch(device)
	}
	return o.stop(now, stopped) || parked
}

// watch remembers a device. When there are too many, any one is forgotten: then it is the script that is stopped often.
func (s *script) watch(device messages.DeviceID) *conduct {
	if s.offenders == nil {
		s.offenders = make(map[messages.DeviceID]*conduct)
	}
	for other := range s.offenders {
		if len(s.offenders) < maxOffenders {
			break
		}
		delete(s.offenders, other)
	}
	o := &conduct{}
	s.offenders[device] = o
	return o
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
		if e.Value.(*script).conduct.parked(now) {
			n++
		}
	}
	return n
}
