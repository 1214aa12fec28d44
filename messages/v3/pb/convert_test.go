package pb

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

var rewrite = flag.Bool("rewrite", false, "write testdata/schema.txt anew")

// events are golden events that use every field of every body.
func events(t testing.TB) [][]byte {
	t.Helper()
	text, err := os.ReadFile("testdata/events.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Split(bytes.TrimSpace(text), []byte("\n"))
}

func request(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/request.json")
	if err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSpace(text)
}

func value(t testing.TB, text []byte) (v any) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(text))
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

// toJSON writes a message as v3 has it.
func toJSON(t testing.TB, m proto.Message) []byte {
	t.Helper()
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err == nil {
		text, err = recode(text, m.ProtoReflect().Descriptor(), base64ToHex)
	}
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestEveryFieldOfAnEventSurvives(t *testing.T) {
	seen := map[protoreflect.FullName]bool{}
	for _, event := range events(t) {
		out, err := FromJSON(event)
		if err != nil {
			t.Fatalf("%s: %v", event, err)
		}
		var up ApplicationUp
		if err := proto.Unmarshal(out, &up); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(value(t, event), value(t, toJSON(t, &up))); diff != "" {
			t.Errorf("%.300s: %s", event, diff)
		}
		note(up.ProtoReflect(), seen)
	}
	for _, field := range fields((&ApplicationUp{}).ProtoReflect().Descriptor(), map[protoreflect.FullName]bool{}) {
		if !seen[field.FullName()] {
			t.Errorf("testdata/events.jsonl has no %s", field.FullName())
		}
	}
}

// note adds the fields that are set in m.
func note(m protoreflect.Message, seen map[protoreflect.FullName]bool) {
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		seen[field.FullName()] = true
		switch {
		case field.IsMap():
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				if m, ok := v.Interface().(protoreflect.Message); ok {
					note(m, seen)
				}
				return true
			})
		case field.Message() == nil:
		case field.IsList():
			for i := range v.List().Len() {
				note(v.List().Get(i).Message(), seen)
			}
		default:
			note(v.Message(), seen)
		}
		return true
	})
}

// fields lists the fields of md and of the messages of this package below it.
func fields(md protoreflect.MessageDescriptor, done map[protoreflect.FullName]bool) (out []protoreflect.FieldDescriptor) {
	if done[md.FullName()] || md.FullName().Parent() == "google.protobuf" {
		return nil
	}
	done[md.FullName()] = true
	for i := range md.Fields().Len() {
		field := md.Fields().Get(i)
		out = append(out, field)
		if field.IsMap() {
			field = field.MapValue()
		}
		if field.Message() != nil {
			out = append(out, fields(field.Message(), done)...)
		}
	}
	return out
}

// TestNumbersAreThoseOfTheThingsStack holds what clients were generated from: testdata/schema.txt was compared with its API definition.
func TestNumbersAreThoseOfTheThingsStack(t *testing.T) {
	var lines []string
	done := map[protoreflect.FullName]bool{}
	for _, m := range []proto.Message{&ApplicationUp{}, &DownlinkQueueRequest{}, &ApplicationDownlinks{}} {
		for _, f := range fields(m.ProtoReflect().Descriptor(), done) {
			kind := f.Kind().String()
			switch {
			case f.Message() != nil:
				kind = string(f.Message().FullName())
			case f.Enum() != nil:
				kind = string(f.Enum().FullName())
				for i := range f.Enum().Values().Len() {
					v := f.Enum().Values().Get(i)
					lines = append(lines, fmt.Sprintf("%s.%s = %d", kind, v.Name(), v.Number()))
				}
			}
			lines = append(lines, fmt.Sprintf("%s = %d %s %s", f.FullName(), f.Number(), f.Cardinality(), kind))
		}
	}
	slices.Sort(lines)
	got := strings.Join(slices.Compact(lines), "\n") + "\n"
	if *rewrite {
		if err := os.WriteFile("testdata/schema.txt", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/schema.txt")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Error(diff)
	}
}

// TestEventOfOneFieldByHand compares with bytes that were put together from the numbers, without generated code.
func TestEventOfOneFieldByHand(t *testing.T) {
	str := func(b []byte, n protowire.Number, v string) []byte {
		return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), v)
	}
	ids := str(str(str(nil, 1, "dev1"), 2, string(str(nil, 1, "app1"))), 4, "\x00\x04\xa3\x0b\x00\x1c\x05\x30")
	up := protowire.AppendVarint(protowire.AppendTag(nil, 2, protowire.VarintType), 2)
	want := str(str(nil, 1, string(ids)), 3, string(str(up, 4, "\x01\x67")))
	got, err := FromJSON([]byte(`{"end_device_ids":{"device_id":"dev1","application_ids":{"application_id":"app1"},"dev_eui":"0004A30B001C0530"},"uplink_message":{"f_port":2,"frm_payload":"AWc="}}`))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%x\n%x %v", got, want, err)
	}
}

func TestWhatOnlyLorikeetHasIsLeftOut(t *testing.T) {
	plain := `{"end_device_ids":{"device_id":"dev1"},"downlink_queued":{"f_port":1}}`
	want, err := FromJSON([]byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	got, err := FromJSON([]byte(` { "more" : [ {"a":"]}"}, 1, "\"" ] , "end_device_ids":{"device_id":"dev1"}, "downlink_queued":{"id":"01H","f_port":1,"expires_at":null,"x":{}}, "n":1.5}`))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%x, want %x: %v", got, want, err)
	}
}

func TestPayloadsThatAreNoTextAreNotLost(t *testing.T) {
	for in, want := range map[string]string{
		`"half \ud800 pair"`: "half \uFFFD pair", "\"byte \xff\"": "byte \uFFFD", `"pair \ud83d\ude00"`: "pair \U0001F600",
	} {
		out, err := FromJSON([]byte(`{"uplink_message":{"decoded_payload":{"a":` + in + `}}}`))
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		var up ApplicationUp
		if err := proto.Unmarshal(out, &up); err != nil {
			t.Fatal(err)
		}
		if got := up.GetUplinkMessage().GetDecodedPayload().AsMap()["a"]; got != want {
			t.Errorf("%s: %q", in, got)
		}
	}
}

func TestWhatIsNoEventIsRefused(t *testing.T) {
	for _, in := range []string{
		``, `null`, `[]`, `7`, `{`, `{"uplink_message":7}`, `{"uplink_message":{"f_port":-1}}`, `{"uplink_message":{"decoded_payload":{"a":1e999}}}`,
		`{"end_device_ids":{"dev_eui":"xyz"}}`, `{"uplink_message":{"decoded_payload":[]}}`, `{"uplink_message":{"rx_metadata":{}}}`,
	} {
		if out, err := FromJSON([]byte(in)); err == nil || strings.Contains(err.Error(), "proto:") {
			t.Errorf("%s: %x, %v", in, out, err)
		}
	}
}

func TestRequestsReadAsJSON(t *testing.T) {
	var m DownlinkQueueRequest
	if err := unmarshal(request(t), &m); err != nil {
		t.Fatal(err)
	}
	in, err := proto.Marshal(&m)
	if err != nil {
		t.Fatal(err)
	}
	got, err := QueueRequestFromProto(in)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(value(t, request(t)), value(t, got)); diff != "" {
		t.Error(diff)
	}
	in, err = proto.Marshal(&ApplicationDownlinks{Downlinks: m.GetDownlinks()})
	if err != nil {
		t.Fatal(err)
	}
	if got, err = DownlinksFromProto(in); err != nil {
		t.Fatal(err)
	}
	downlinks, err := v3.DecodeDownlinks(got, nil)
	if err != nil || len(downlinks) != 2 || downlinks[0].Priority != 6 || string(downlinks[0].FRMPayload) != "\xbe\xef" {
		t.Fatalf("%+v %v", downlinks, err)
	}
	if diff := cmp.Diff(value(t, request(t)).(map[string]any)["downlinks"], value(t, got).(map[string]any)["downlinks"]); diff != "" {
		t.Error(diff)
	}
}

func TestAnEmptyListOfDownlinksIsSaid(t *testing.T) {
	if got, err := DownlinksFromProto(nil); err != nil || string(got) != `{"downlinks":[]}` {
		t.Errorf("%s %v", got, err)
	}
	in, err := proto.Marshal(&DownlinkQueueRequest{EndDeviceIds: &EndDeviceIdentifiers{DeviceId: "dev1"}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := QueueRequestFromProto(in); err != nil || string(got) != `{"end_device_ids":{"device_id":"dev1"},"downlinks":[]}` {
		t.Errorf("%s %v", got, err)
	}
}

func TestWhatIsNoRequestIsRefused(t *testing.T) {
	for _, in := range []string{`{"downlinks":[{"f_port":1}]}`, "hello", "\x0a\x05abc", "\x1a\x01a", "\x12\xff\xff\xff\xff\x0f"} {
		if got, err := DownlinksFromProto([]byte(in)); messages.CodeOf(err) != messages.CodeInvalid {
			t.Errorf("downlinks %q: %s %v", in, got, err)
		}
		if got, err := QueueRequestFromProto([]byte(in)); messages.CodeOf(err) != messages.CodeInvalid {
			t.Errorf("request %q: %s %v", in, got, err)
		}
	}
}

func FuzzFromJSON(f *testing.F) {
	for _, event := range events(f) {
		f.Add(event)
	}
	f.Add([]byte(`{"uplink_message":{"decoded_payload":{"a":"\ud800"}},"end_device_ids":null,"x":[[[{}]]]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		out, err := FromJSON(in)
		if err != nil {
			return
		}
		var up ApplicationUp
		if err := proto.Unmarshal(out, &up); err != nil {
			t.Fatalf("%s gives what can't be read: %v", in, err)
		}
		again, err := FromJSON(toJSON(t, &up))
		if err != nil || !bytes.Equal(out, again) {
			t.Fatalf("%s: %x, again %x %v", in, out, again, err)
		}
	})
}

func FuzzRequestsFromProto(f *testing.F) {
	var m DownlinkQueueRequest
	if err := unmarshal(request(f), &m); err != nil {
		f.Fatal(err)
	}
	in, err := proto.Marshal(&m)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(in)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, convert := range []func([]byte) ([]byte, error){DownlinksFromProto, QueueRequestFromProto} {
			out, err := convert(in)
			if err == nil && (!json.Valid(out) || !bytes.Contains(out, []byte(`"downlinks":[`))) {
				t.Fatalf("%x gives %s", in, out)
			}
			if err == nil {
				_, _ = v3.DecodeDownlinks(out, nil) // may refuse, must not panic
			}
		}
	})
}

func BenchmarkFromJSON(b *testing.B) {
	event := events(b)[0]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := FromJSON(event); err != nil {
			b.Fatal(err)
		}
	}
}
