package rest

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	v3 "lorikeet/messages/v3"
)

// parse reads a request as the door does.
func parse[T any](t testing.TB, member, body string) request[T] {
	t.Helper()
	b, err := settleBody([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	r, _, err := parseRequest[T](b, member, v3.Strict)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSessionsAreMergedByWhatStays(t *testing.T) {
	t.Parallel()
	now := `{"dev_addr":"26010203","keys":{"f_nwk_s_int_key":{"key":"` + nwkSKey + `"},"app_s_key":{"key":"` + appSKey + `"}},"last_f_cnt_up":10,"last_n_f_cnt_down":20,"last_a_f_cnt_down":20}`
	full := func(addr, nwk, app, counters string) string {
		s := sessionOf(addr, nwk, app)
		return s[:len(s)-1] + counters + "}"
	}
	const withID = `{"dev_addr":"26010203","keys":{"session_key_id":"AQI=","f_nwk_s_int_key":{"key":"` + nwkSKey + `"}},"last_f_cnt_up":10}`
	const kept = `,"last_f_cnt_up":10,"last_n_f_cnt_down":20,"last_a_f_cnt_down":20`
	for name, c := range map[string]struct{ now, session, mask, want string }{
		"no session named":       {now, `{}`, `"name"`, now},
		"first half":             {``, sessionOf("26010203", nwkSKey, ""), ``, sessionOf("26010203", nwkSKey, "")},
		"same again":             {now, sessionOf("26010203", nwkSKey, appSKey), ``, now},
		"same half again":        {now, sessionOf("26010203", "", appSKey), `"session.dev_addr","session.keys.app_s_key.key"`, now},
		"other AppSKey":          {now, sessionOf("26010203", "", otherAppSKey), `"session.keys.app_s_key.key"`, full("26010203", nwkSKey, otherAppSKey, kept)},
		"other NwkSKey":          {now, sessionOf("26010203", otherNwkSKey, ""), ``, full("26010203", otherNwkSKey, appSKey, `,"last_n_f_cnt_down":20,"last_a_f_cnt_down":20`)},
		"both keys":              {now, sessionOf("26010203", otherNwkSKey, otherAppSKey), ``, sessionOf("26010203", otherNwkSKey, otherAppSKey)},
		"other address, half":    {now, sessionOf("26010299", otherNwkSKey, ""), ``, sessionOf("26010299", otherNwkSKey, "")},
		"other address, AppSKey": {now, sessionOf("26010299", "", otherAppSKey), `"session.dev_addr","session.keys.app_s_key"`, sessionOf("26010299", "", otherAppSKey)},
		"address alone":          {now, `{"dev_addr":"26010299"}`, ``, full("26010299", nwkSKey, appSKey, kept)},
		"counter alone":          {now, `{"last_f_cnt_up":99}`, `"session.last_f_cnt_up"`, full("26010203", nwkSKey, appSKey, `,"last_f_cnt_up":99,"last_n_f_cnt_down":20,"last_a_f_cnt_down":20`)},
		"counters of a move":     {``, full("26010203", nwkSKey, appSKey, kept), ``, full("26010203", nwkSKey, appSKey, kept)},
		"new keys and counters":  {now, full("26010203", otherNwkSKey, otherAppSKey, `,"last_f_cnt_up":3`), ``, full("26010203", otherNwkSKey, otherAppSKey, `,"last_f_cnt_up":3`)},
		"id stays":               {withID, `{"last_f_cnt_up":10}`, `"session.last_f_cnt_up"`, withID},
		"id of other keys":       {withID, sessionOf("26010203", otherNwkSKey, otherAppSKey), ``, sessionOf("26010203", otherNwkSKey, otherAppSKey)},
		"taken away":             {now, `null`, `"session"`, ``},
		"a null without a mask":  {now, `null`, ``, now},
	} {
		mask := ``
		if c.mask != "" {
			mask = `,"field_mask":{"paths":[` + c.mask + `]}`
		}
		r := parse[v3.EndDevice](t, "end_device", `{"end_device":{"session":`+c.session+`}`+mask+`}`)
		read := func(text string) *v3.Session {
			if text == "" {
				return nil
			}
			return parse[v3.EndDevice](t, "end_device", `{"end_device":{"session":`+text+`}}`).value.Session
		}
		got, err := r.session(read(c.now))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := read(c.want)
		if diff := cmp.Diff(fieldsOf(want), fieldsOf(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// fieldsOf writes a session with its keys, which don't print themselves.
func fieldsOf(s *v3.Session) tree {
	if s == nil {
		return nil
	}
	t, err := toTree(s)
	if err != nil {
		panic(err)
	}
	return t
}
