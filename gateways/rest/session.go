package rest

import (
	"slices"
	"strings"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

// session gives the session that a write asks for, over the one that the device has now (nil for none); nil if there shall be none.
//
// NS and AS each write their half of a session. As long as the address stays, a key that the request does not name stays too, and with a key the
// counters under it: no frame may be taken twice and no FCntDown used twice with one key. With another address it is another activation, which has
// nothing but what the request names; unless it names no key at all, then only the address is corrected.
func (r request[T]) session(now *v3.Session) (*v3.Session, error) {
	if !r.names("session") {
		return now, nil
	}
	t := tree{}
	if now != nil {
		current, err := toTree(now)
		if err != nil {
			return nil, err
		}
		t["session"] = current
	}
	fields := tree{}
	if given, ok := r.fields["session"]; ok {
		fields["session"] = given
	}
	apply(t, fields, r.sessionPaths())
	next, err := fromTree[struct {
		Session *v3.Session `json:"session"`
	}](t)
	if err != nil {
		return nil, err
	}
	s := next.Session
	if s == nil {
		return nil, nil
	}
	if err := checkSession(s); err != nil {
		return nil, err
	}
	if now != nil {
		r.settleSession(now, s)
	}
	return s, nil
}

// sessionPaths are the paths of the mask that are about the session; nil if there is no mask.
func (r request[T]) sessionPaths() []string {
	if r.paths == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(r.paths), func(p string) bool { return !overlaps([]string{p}, "session") })
}

func checkSession(s *v3.Session) error {
	for name, k := range map[string]*v3.KeyEnvelope{"f_nwk_s_int_key": s.Keys.FNwkSIntKey, "app_s_key": s.Keys.AppSKey} {
		switch {
		case k == nil:
		case k.Key == nil && len(k.EncryptedKey) > 0:
			return messages.Invalid("invalid_key", `end_device.session.keys.%s is wrapped under a KEK that is not known: send it in clear as {"key":"<32 hex digits>"}`, name)
		case k.Key != nil && messages.Key(*k.Key).IsZero():
			return messages.Invalid("invalid_key", "end_device.session.keys.%s is all zeros: set the key of the device", name)
		}
	}
	return nil
}

func (r request[T]) settleSession(now, s *v3.Session) {
	hasNwk, hasApp := r.gives("session.keys.f_nwk_s_int_key"), r.gives("session.keys.app_s_key")
	same := now.DevAddr != nil && s.DevAddr != nil && *now.DevAddr == *s.DevAddr
	if !same && (hasNwk || hasApp) {
		if !hasNwk {
			s.Keys.FNwkSIntKey = nil
		}
		if !hasApp {
			s.Keys.AppSKey = nil
		}
		r.dropCounters(s, true)
		return
	}
	if !equalKeys(now.Keys.FNwkSIntKey, s.Keys.FNwkSIntKey) { // uplinks under the new key begin anew
		r.dropCounters(s, equalKeys(nil, s.Keys.AppSKey) || !equalKeys(now.Keys.AppSKey, s.Keys.AppSKey))
	}
}

// gives says whether the request names path and has a value there.
func (r request[T]) gives(path string) bool {
	_, ok := lookup(r.fields, strings.Split(path, "."))
	return ok && (r.paths == nil || overlaps(r.paths, path))
}

func (r request[T]) dropCounters(s *v3.Session, down bool) {
	if !r.gives("session.last_f_cnt_up") {
		s.LastFCntUp = 0
	}
	if down && !r.gives("session.last_n_f_cnt_down") {
		s.LastNFCntDown = 0
	}
	if down && !r.gives("session.last_a_f_cnt_down") {
		s.LastAFCntDown = 0
	}
	if !r.gives("session.keys.session_key_id") {
		s.Keys.SessionKeyID = nil
	}
}

func equalKeys(a, b *v3.KeyEnvelope) bool {
	return keyOf(a) == keyOf(b)
}

func keyOf(e *v3.KeyEnvelope) (k messages.Key) {
	if e != nil && e.Key != nil {
		k = messages.Key(*e.Key)
	}
	return k
}
