package webhook

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

func loadTemplates(t *testing.T, files map[string]string) (*Templates, error) {
	t.Helper()
	dir := ""
	if files != nil {
		dir = t.TempDir()
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return LoadTemplates(dir)
}

// Every built-in template makes a webhook that can be sent, with no place left unfilled.
func TestCatalogueWorks(t *testing.T) {
	t.Parallel()
	templates, err := loadTemplates(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := newTestSender(t, Config{})
	for _, template := range templates.All() {
		id := template.IDs.TemplateID
		fields := map[string]string{}
		for _, f := range template.Fields {
			if f.Name == "" || f.Description == "" {
				t.Errorf("%s: field %s is not explained", id, f.ID)
			}
			if fields[f.ID] = "aB3/&? é"; strings.HasSuffix(f.ID, "-url") {
				fields[f.ID] = "https://example.com:8443"
			}
			if f.ID == "host" {
				fields[f.ID] = "example.com"
			}
		}
		w, err := templates.Fill(id, fields)
		if err != nil {
			t.Errorf("%s: %v", id, err)
			continue
		}
		if err := s.Check(w); err != nil {
			t.Errorf("%s: %v", id, err)
		}
		hook, err := s.New(w)
		if err != nil || !hook.Wants(messages.EventUplink) {
			t.Errorf("%s: takes no uplinks, %v", id, err)
			continue
		}
		url, text := hook.BatchKey(uplink), ""
		for name, value := range w.Headers {
			text += name + value
		}
		if strings.ContainsAny(url+text, "{}") || template.Name == "" || template.Description == "" {
			t.Errorf("%s: %s %s", id, url, text)
		}
		for _, f := range template.Fields {
			if f.Optional || f.DefaultValue != "" {
				continue
			}
			few := map[string]string{}
			for name, value := range fields {
				if name != f.ID {
					few[name] = value
				}
			}
			if _, err := templates.Fill(id, few); messages.CodeOf(err) != messages.CodeInvalid || !strings.Contains(err.Error(), f.ID) || strings.Contains(err.Error(), "aB3") {
				t.Errorf("%s without %s: %v", id, f.ID, err)
			}
		}
	}
	if n := len(templates.All()); n < 10 {
		t.Errorf("%d templates", n)
	}
}

const ownTemplate = `
template-id: own
name: Own
base-url: https://{host}/hook/{path}{?devID}
headers:
  Authorization: Bearer {token}
  X-Both: "{token}{host}"
fields:
  - {id: host, name: Host, default-value: "example.com:8443"}
  - {id: path, name: Path}
  - {id: token, name: Token, secret: true, optional: true}
paths:
  uplink-message: "/up?key={path}"
  join-accept: ""
field-mask: [up.uplink_message.f_port]
later-key: ignored
`

func TestTemplateIsFilled(t *testing.T) {
	t.Parallel()
	templates, err := loadTemplates(t, map[string]string{"own.yml": ownTemplate, "templates.yml": "- own\n", "README.md": "x", ".hidden.yaml": "{"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := templates.Fill("own", map[string]string{"path": "a/b c&{devID}"})
	if err != nil {
		t.Fatal(err)
	}
	want := v3.Webhook{
		BaseURL: "https://example.com:8443/hook/a%2Fb%20c%26%7BdevID%7D{?devID}", Format: "json", Headers: map[string]string{"X-Both": "example.com:8443"},
		UplinkMessage: &v3.MessagePath{Path: "/up?key=a%2Fb%20c%26%7BdevID%7D"}, JoinAccept: &v3.MessagePath{}, FieldMask: &v3.FieldMask{Paths: []string{"up.uplink_message.f_port"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if w := newTestWebhook(t, newTestSender(t, Config{}), func(h *v3.Webhook) { *h = got }); w.BatchKey(uplink) != "https://example.com:8443/hook/a%2Fb%20c%26%7BdevID%7D/up?devID=dev1&key=a%2Fb%20c%26%7BdevID%7D" {
		t.Error(w.BatchKey(uplink))
	}
	if got, err = templates.Fill("own", map[string]string{"path": "p", "token": "t{1}"}); err != nil || got.Headers["Authorization"] != "Bearer t{1}" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := templates.Fill("own", map[string]string{"path": "p", "tokn": "hunter2"}); messages.CodeOf(err) != messages.CodeInvalid || !strings.Contains(err.Error(), "tokn") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("an unknown field: %v", err)
	}
	if _, err := templates.Fill("other", nil); messages.CodeOf(err) != messages.CodeNotFound {
		t.Error(err)
	}
}

func TestFolderOfTheOperator(t *testing.T) {
	t.Parallel()
	templates, err := loadTemplates(t, map[string]string{"datacake.yaml": strings.Replace(ownTemplate, "own", "datacake", 1)})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := templates.Template("datacake"); err != nil || got.Name != "Own" {
		t.Errorf("%+v, %v", got, err)
	}
	for name, text := range map[string]string{
		"not YAML": "{", "no id": "name: x\nbase-url: https://x\n", "bad id": strings.Replace(ownTemplate, "own", "No Good", 1),
		"no base URL":        "template-id: own\n",
		"field of two":       "template-id: own\nbase-url: https://x\nfields: [{id: a}, {id: a}]\n",
		"field of a URL":     "template-id: own\nbase-url: https://x\nfields: [{id: devID}]\n",
		"field with a brace": "template-id: own\nbase-url: https://x\nfields: [{id: 'a}'}]\n",
	} {
		if _, err := loadTemplates(t, map[string]string{"bad.yaml": text}); err == nil || !strings.Contains(err.Error(), "bad.yaml") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := LoadTemplates(filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("a folder that is not there is accepted")
	}
}
