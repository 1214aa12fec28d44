package rest

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"lorikeet/messages"
	v3 "lorikeet/messages/v3"
)

func searchRoutes() []route {
	return []route{
		{http.MethodGet, "/search/applications", anyKey, (*Server).searchApplications},
		{http.MethodGet, "/search/applications/:application_id/devices", readDevices, (*Server).searchDevices},
		{http.MethodPost, "/applications/:application_id/devices/filter", readDevices, (*Server).filterDevices},
	}
}

// condition says whether an entity is one that is looked for.
type condition[T any] func(*T) bool

// fits keeps what meets all conditions.
func fits[T any](items []T, conditions []condition[T]) []T {
	return slices.DeleteFunc(items, func(v T) bool {
		return slices.ContainsFunc(conditions, func(is condition[T]) bool { return !is(&v) })
	})
}

// has compares without regard to case, as The Things Stack does.
func has(text, part string) bool {
	return strings.Contains(strings.ToLower(text), strings.ToLower(part))
}

// textOf gives a text of an entity to search in.
type textOf[T any] func(*T) string

// conditions reads those of the query: <field>_contains for each of fields, query for any of them, and attributes_contain[key]=value.
func conditions[T any](query url.Values, fields map[string]textOf[T], attributes func(*T) map[string]string) (out []condition[T]) {
	for name, text := range fields {
		if part := query.Get(name + "_contains"); part != "" {
			out = append(out, func(v *T) bool { return has(text(v), part) })
		}
	}
	if part := query.Get("query"); part != "" {
		out = append(out, func(v *T) bool {
			for _, text := range fields {
				if has(text(v), part) {
					return true
				}
			}
			return false
		})
	}
	for name, values := range query {
		rest, begins := strings.CutPrefix(name, "attributes_contain[")
		key, ends := strings.CutSuffix(rest, "]")
		if !begins || !ends {
			continue
		}
		for _, part := range values {
			out = append(out, func(v *T) bool {
				value, ok := attributes(v)[key]
				return ok && has(value, part)
			})
		}
	}
	return out
}

// deletedOnly says whether only deleted entities are asked for. None are kept.
func deletedOnly(query url.Values) bool { return query.Get("deleted") == "true" }

var applicationTexts = map[string]textOf[v3.Application]{
	"id":          func(a *v3.Application) string { return a.IDs.ApplicationID },
	"name":        func(a *v3.Application) string { return a.Name },
	"description": func(a *v3.Application) string { return a.Description },
}

func (s *Server) searchApplications(c *call) error {
	apps, err := s.visibleApplications(c)
	if err != nil {
		return err
	}
	if deletedOnly(c.QueryParams()) {
		apps = nil
	}
	shown, err := shownBy[v3.Application](c, nil)
	if err != nil {
		return err
	}
	apps = fits(apps, conditions(c.QueryParams(), applicationTexts, func(a *v3.Application) map[string]string { return a.Attributes }))
	return listed(c, "applications", apps, applicationOrders, shown)
}

// deviceTexts are what is searched in. The address is that of the session, which the directory knows without waking the device.
func (s *Server) deviceTexts() map[string]textOf[v3.EndDevice] {
	return map[string]textOf[v3.EndDevice]{
		"id":          func(d *v3.EndDevice) string { return d.IDs.DeviceID },
		"name":        func(d *v3.EndDevice) string { return d.Name },
		"description": func(d *v3.EndDevice) string { return d.Description },
		"dev_eui":     func(d *v3.EndDevice) string { return euiText(d.IDs.DevEUI) },
		"join_eui":    func(d *v3.EndDevice) string { return euiText(d.IDs.JoinEUI) },
		"dev_addr": func(d *v3.EndDevice) string {
			var text strings.Builder
			for _, a := range s.cfg.DevAddrs(d.DeviceID()) {
				text.WriteString(a.String() + " ")
			}
			return text.String()
		},
	}
}

func attributesOf(d *v3.EndDevice) map[string]string { return d.Attributes }

func (s *Server) searchDevices(c *call) error {
	devices, err := s.cfg.Registry.Devices(c.ctx(), c.app())
	if err != nil {
		return err
	}
	if deletedOnly(c.QueryParams()) {
		devices = nil
	}
	return s.listedDevices(c, fits(devices, conditions(c.QueryParams(), s.deviceTexts(), attributesOf)))
}

// deviceFilter is the body of a filter request. What a list takes in its query may be in it too.
type deviceFilter struct {
	ApplicationIDs *v3.ApplicationIDs `json:"application_ids,omitempty"`
	Filters        []filterCondition  `json:"filters,omitempty"`
	UpdatedSince   *time.Time         `json:"updated_since,omitempty"`
	FieldMask      *v3.FieldMask      `json:"field_mask,omitempty"`
	Order          string             `json:"order,omitempty"`
	Limit          v3.Uint32          `json:"limit,omitempty"`
	Page           v3.Uint32          `json:"page,omitempty"`
}

// filterCondition has exactly one member set.
type filterCondition struct {
	UpdatedSince *time.Time `json:"updated_since,omitempty"`
}

func (s *Server) filterDevices(c *call) error {
	req, err := decodeBody[deviceFilter](c)
	if err != nil {
		return err
	}
	is, err := req.conditions()
	if err != nil {
		return err
	}
	devices, err := s.cfg.Registry.Devices(c.ctx(), c.app())
	if err != nil {
		return err
	}
	req.toQuery(c.QueryParams())
	return s.listedDevices(c, fits(devices, is))
}

func (f deviceFilter) conditions() (out []condition[v3.EndDevice], err error) {
	for _, since := range append(f.Filters, filterCondition{f.UpdatedSince}) {
		if since.UpdatedSince != nil {
			out = append(out, func(d *v3.EndDevice) bool { return d.UpdatedAt != nil && d.UpdatedAt.After(*since.UpdatedSince) })
		}
	}
	if len(out) == 0 {
		return nil, messages.Invalid("no_filters", `the body has no filter: send {"filters":[{"updated_since":"2024-10-24T10:00:00Z"}]}`)
	}
	return out, nil
}

// toQuery puts what the body says of the list where a list looks for it.
func (f deviceFilter) toQuery(query url.Values) {
	set := func(name, value string) {
		if value != "" && value != "0" {
			query.Set(name, value)
		}
	}
	set("order", f.Order)
	set("limit", f.Limit.String())
	set("page", f.Page.String())
	if f.FieldMask != nil {
		set("field_mask", strings.Join(f.FieldMask.Paths, ","))
	}
}
