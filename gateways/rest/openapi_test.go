package rest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

func TestEveryRouteIsDescribed(t *testing.T) {
	t.Parallel()
	described := operations()
	for _, r := range routes() {
		op, ok := described[r.name()]
		switch {
		case !ok:
			t.Errorf("%q is not described: add it to a function of openapi_*.go that operations calls", r.name())
		case op.summary == "":
			t.Errorf("%q has no summary", r.name())
		case op.answer == nil && r.method == http.MethodGet:
			t.Errorf("%q has no schema of its answer", r.name())
		case op.request == nil && r.method == http.MethodPut && !strings.HasPrefix(op.summary, "Not available"):
			t.Errorf("%q has no schema of its body", r.name())
		}
		for _, name := range op.query {
			if queries[name] == "" {
				t.Errorf("%q: the query parameter %s has no description", r.name(), name)
			}
		}
		delete(described, r.name())
	}
	for name := range described {
		t.Errorf("%q is described, but there is no such route", name)
	}
}

func TestTheDocumentIsServed(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	got := d.send(httptest.NewRequest(http.MethodGet, prefix+"/openapi.json", nil)).is(200).has("openapi", `"3.1.0"`).has("servers", `[{"url":"https://lora.example.com"}]`)
	paths, _ := got.tree()["paths"].(tree)
	if item, _ := paths["/api/v3/as/applications/{application_id}/devices/{device_id}/down/push"].(tree); item["post"] == nil || len(paths) < 80 {
		t.Errorf("%d paths, push is %v", len(paths), item)
	}
	ids := map[string]bool{}
	for _, item := range paths {
		for _, op := range item.(tree) {
			id := op.(tree)["operationId"].(string)
			if ids[id] {
				t.Errorf("operationId %s is there twice", id)
			}
			ids[id] = true
		}
	}
}

// contract has the schemas of all answers, compiled once. Members that a type has no field for are errors in it, as they are not to clients.
type contract struct {
	once    sync.Once
	answers map[string]*jsonschema.Schema
	err     error
}

var answers contract

func (c *contract) compile() {
	c.answers = map[string]*jsonschema.Schema{}
	doc := document(routes(), operations(), "https://lora.example.com", "1")
	closeObjects(doc)
	raw, err := json.Marshal(doc)
	if c.err = err; err != nil {
		return
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if c.err = err; err != nil {
		return
	}
	compiler := jsonschema.NewCompiler()
	if c.err = compiler.AddResource("openapi.json", value); c.err != nil {
		return
	}
	escape := strings.NewReplacer("~", "~0", "/", "~1")
	for _, r := range routes() {
		op, ok := operations()[r.name()]
		if !ok || op.media != "" {
			continue
		}
		path := escape.Replace(pathParameter.ReplaceAllString(r.path, "{$1}"))
		pointer := "openapi.json#/paths/" + path + "/" + strings.ToLower(r.method) + "/responses/200/content/application~1json/schema"
		if c.answers[r.name()], c.err = compiler.Compile(pointer); c.err != nil {
			return
		}
	}
}

// closeObjects makes every member that is not described an error.
func closeObjects(v any) {
	switch v := v.(type) {
	case tree:
		if _, ok := v["properties"]; ok && v["additionalProperties"] == nil {
			v["additionalProperties"] = false
		}
		for _, inner := range v {
			closeObjects(inner)
		}
	case []any:
		for _, inner := range v {
			closeObjects(inner)
		}
	}
}

// check compares an answer with what is described of its route.
func (c *contract) check(d *door, r reply) {
	d.Helper()
	if c.once.Do(c.compile); c.err != nil {
		d.Fatalf("the OpenAPI document: %v", c.err)
	}
	method, path, _ := strings.Cut(r.call, " ")
	found := d.server.echo.NewContext(httptest.NewRequest(method, path, nil), httptest.NewRecorder())
	d.server.echo.Router().Find(method, path, found)
	schema := c.answers[method+" "+strings.TrimPrefix(found.Path(), prefix)]
	if r.Status != http.StatusOK || method == http.MethodHead || schema == nil || r.Body == "" || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		return
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(r.Body))
	if err == nil {
		err = schema.Validate(value)
	}
	if err != nil {
		d.Errorf("%s: the answer is not as it is described: %v\n%s", r.call, err, r.Body)
	}
}

func TestAnswersThatAreNotAsDescribedAreFound(t *testing.T) {
	t.Parallel()
	if answers.once.Do(answers.compile); answers.err != nil {
		t.Fatal(answers.err)
	}
	schema := answers.answers["GET /applications/:application_id/devices/:device_id"]
	for text, ok := range map[string]bool{`{"ids":{"device_id":"a"},"name":"n"}`: true, `{"nam":"n"}`: false, `{"name":1}`: false, `{"ids":{"dev_eui":"xyz"}}`: false, `{"session":{"last_f_cnt_up":-1}}`: false} {
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(value); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}
