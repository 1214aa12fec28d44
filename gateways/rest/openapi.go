package rest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"

	"lorikeet/messages"
)

// operation says of a route what OpenAPI wants to know. Each route has one in an openapi_*.go file; a test names those that lack it.
type operation struct {
	summary string
	request shape // nothing: there is no body
	answer  shape // of HTTP 200
	query   []string
	media   string // of the answer; "": application/json
}

// operations has those of all routes, by method and path as routes have them.
func operations() map[string]operation {
	all := map[string]operation{}
	for _, part := range []map[string]operation{
		serverOperations(),
		applicationOperations(),
		deviceOperations(),
		trafficOperations(),
		integrationOperations(),
		gatewayOperations(),
		networkOperations(),
		claimOperations(),
		deliveryOperations(),
		historyOperations(),
		fleetOperations(),
		deviceRepositoryOperations(),
		unavailableOperations(),
	} {
		maps.Copy(all, part)
	}
	return all
}

// Query parameters that many routes share.
var (
	oneMask = []string{"field_mask"}
	paged   = []string{"field_mask", "limit", "page", "order"}
)

// queries describe parameters of the query.
var queries = map[string]string{
	"field_mask":           "The fields to show, with commas between and dots for members: name,session.dev_addr. Without it ids and times are shown.",
	"limit":                "Entries on a page: 1 to 1000, 100 if it is left out.",
	"page":                 "The page, from 1.",
	"order":                "The field to sort by, with - before it for the reverse.",
	"query":                "A part of the id, the name, the description, an EUI or the address.",
	"id_contains":          "A part of the id.",
	"name_contains":        "A part of the name.",
	"description_contains": "A part of the description.",
	"dev_eui_contains":     "A part of the DevEUI, hex digits.",
	"join_eui_contains":    "A part of the JoinEUI, hex digits.",
	"dev_addr_contains":    "A part of the address of the session, hex digits.",
	"attributes_contain":   "attributes_contain[key]=value: a part of the value of an attribute.",
	"deleted":              "true: only what is deleted, which is nothing here.",
	"device_ids":           "The ids; may be repeated.",
	"base_frequency":       "Only plans around this frequency, in MHz.",
	"band_id":              "Only those of this band.",
	"correlation_id":       "The correlation id to look for.",
	"outcome":              "delivered, failed or dead_letter.",
	"device_id":            "Only those of this device.",
	"event_id":             "Only those of this event.",
	"type":                 "Only those of this type, e.g. uplink_message.",
	"after":                "Only those after this time, e.g. 2026-01-01T00:00:00Z.",
	"before":               "Only those before this time, e.g. 2026-01-01T00:00:00Z.",
	"all":                  "true: all of them.",
	"last":                 "Only those of the last hours: a duration such as 24h.",
	"f_port":               "Only uplinks with this FPort.",
	"format":               "Of messages: json, a line for each, or csv, a table, also with Accept: text/csv. Of an import: what the file is, if its contents don't tell.",
	"continuation_token":   "What the page before gave, to go on after it.",
	"on_conflict":          "What becomes of a row whose device exists: fail, skip or update.",
	"dry_run":              "true: every row is checked, and nothing is written.",
	"frequency_plan_id":    "The frequency plan of rows that name none.",
	"lorawan_version":      "The version of rows that name none, e.g. MAC_V1_0_3.",
	"lorawan_phy_version":  "The version of the regional parameters of rows that name none.",
	"plain":                "true: the keys are readable in what comes.",
	"search":               "Words that the names have.",
}

// listing adds names to the parameters of a list.
func listing(names ...string) []string { return append(slices.Clone(paged), names...) }

// openAPI is the document, made at the first request.
type openAPI struct {
	once sync.Once
	json []byte
	err  error
}

// describe answers with the OpenAPI document.
func (s *Server) describe(c *call) error {
	s.openAPI.once.Do(func() {
		s.openAPI.json, s.openAPI.err = json.Marshal(document(routes(), operations(), s.cfg.PublicURL, s.cfg.Version))
	})
	if s.openAPI.err != nil {
		return fmt.Errorf("describe the API: %w", s.openAPI.err)
	}
	return c.Blob(http.StatusOK, "application/json", s.openAPI.json)
}

// document describes the API in OpenAPI 3.1, whose schemas are those of JSON Schema 2020-12.
func document(all []route, described map[string]operation, url, version string) tree {
	schemas := newSchemas()
	paths := tree{}
	for _, r := range all {
		op, ok := described[r.name()]
		if !ok {
			continue
		}
		path := pathParameter.ReplaceAllString(r.path, "{$1}")
		item, _ := paths[path].(tree)
		if item == nil {
			item = tree{}
			paths[path] = item
		}
		item[strings.ToLower(r.method)] = op.describe(r, schemas)
	}
	if version == "" {
		version = "0"
	}
	return tree{
		"openapi": "3.1.0",
		"info": tree{
			"title": "Lorikeet", "version": version, "license": tree{"name": "Apache-2.0", "identifier": "Apache-2.0"},
			"description": "A LoRaWAN server with the paths and JSON of The Things Stack v3. Zero values are left out of answers; names in camelCase, numbers as strings and members that nobody knows are accepted.",
		},
		"servers":  []any{tree{"url": url}},
		"security": []any{tree{"key": []any{}}},
		"paths":    paths,
		"components": tree{
			"securitySchemes": tree{"key": tree{"type": "http", "scheme": "bearer", "description": "An API key: NNSXS.….…"}},
			"responses":       tree{"Error": tree{"description": "An error, in the form of The Things Stack.", "content": jsonContent("application/json", schemas.of(one[errorBody]()))}},
			"schemas":         schemas.named,
		},
	}
}

// name is the key of a route in operations: the path is without the prefix of the API.
func (r route) name() string { return r.method + " " + strings.TrimPrefix(r.path, prefix) }

var pathParameter = regexp.MustCompile(`:([a-z_]+)`)

func jsonContent(media string, schema any) tree { return tree{media: tree{"schema": schema}} }

func (op operation) describe(r route, s *schemas) tree {
	params := []any{}
	for _, m := range pathParameter.FindAllStringSubmatch(r.path, -1) {
		params = append(params, tree{"name": m[1], "in": "path", "required": true, "schema": tree{"type": "string"}})
	}
	for _, name := range op.query {
		params = append(params, tree{"name": name, "in": "query", "description": queries[name], "schema": tree{"type": "string"}})
	}
	media := op.media
	if media == "" {
		media = "application/json"
	}
	out := tree{
		"operationId": operationID(r), "summary": op.summary, "tags": []any{tagOf(r)}, "parameters": params,
		"responses": tree{
			"200":     tree{"description": "Done.", "content": jsonContent(media, s.of(op.answer))},
			"default": tree{"$ref": "#/components/responses/Error"},
		},
	}
	if op.request != nil {
		out["requestBody"] = tree{"required": true, "content": jsonContent("application/json", s.of(op.request))}
	}
	return out
}

// operationID is made of method and path, so that it is unique and stays.
func operationID(r route) string {
	words := strings.FieldsFunc(r.name(), func(c rune) bool { return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9') })
	id := strings.ToLower(words[0]) + "_" + strings.Join(words[1:], "_")
	if strings.HasSuffix(r.name(), "/") && len(words) > 1 { // a path of its own, with an empty last part
		id += "_"
	}
	return id
}

// tagOf groups routes: by component, or by what is below.
func tagOf(r route) string {
	parts := strings.Split(strings.TrimPrefix(strings.TrimPrefix(r.path, prefix), "/"), "/")
	switch {
	case !strings.HasPrefix(r.path, prefix):
		return "server"
	case parts[0] == "applications" && len(parts) > 2 && parts[2] == "devices":
		return "devices"
	}
	return parts[0]
}

// rightNames are the enum of rights in the document.
func rightNames() []any {
	out := []any{}
	for _, r := range append(slices.Clone(applicationRights), messages.RightGatewayAll) {
		out = append(out, string(r))
	}
	return out
}
