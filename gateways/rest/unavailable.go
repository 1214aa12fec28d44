package rest

import (
	"net/http"
	"strings"

	"lorikeet/messages"
)

// unavailableOperations describes them as what they are.
func unavailableOperations() map[string]operation {
	out := map[string]operation{}
	for _, r := range unavailableRoutes() {
		out[r.name()] = operation{summary: "Not available: lists nothing or answers 501.", answer: listOfNothing}
	}
	return out
}

func listOfNothing(*schemas) any {
	return tree{"type": "object", "additionalProperties": tree{"type": "array", "maxItems": 0}}
}

// unavailableRoutes are paths of The Things Stack that clients may try and that do nothing here. They say so, in place of "no such path".
func unavailableRoutes() []route {
	const (
		app    = "/applications/:application_id"
		device = app + "/devices/:device_id"
		packs  = "/packages/associations"

		gateway = "/gateways/:gateway_id"
		rules   = "/ns/applications/:application_id/relays/:device_id/uplink-forwarding-rules"
	)
	out := []route{
		{http.MethodGet, "/as" + device + "/packages", readDevices, listNone("packages")},
		{http.MethodGet, "/as" + device + packs, readDevices, listNone("associations")},
		{http.MethodGet, "/as" + app + packs, information, listNone("default_associations")},
	}
	for why, paths := range map[string][]methodPath{
		"application packages: use a webhook, MQTT or a payload formatter": {
			{http.MethodGet, "/as" + device + packs + "/:f_port"}, {http.MethodPut, "/as" + device + packs + "/:f_port"}, {http.MethodDelete, "/as" + device + packs + "/:f_port"},
			{http.MethodGet, "/as" + app + packs + "/:f_port"}, {http.MethodPut, "/as" + app + packs + "/:f_port"}, {http.MethodDelete, "/as" + app + packs + "/:f_port"},
		},
		"provisioning of secure elements: create the devices with their root keys": {{http.MethodPut, "/js" + app + "/provision-devices"}},
		"figures of the link: see /metrics":                                        {{http.MethodGet, "/as" + app + "/link/stats"}},
		"relays": {
			{http.MethodGet, "/ns" + app + "/relays/:device_id"}, {http.MethodPost, "/ns" + app + "/relays"}, {http.MethodPut, "/ns" + app + "/relays/:device_id"},
			{http.MethodDelete, "/ns" + app + "/relays/:device_id"}, {http.MethodGet, rules}, {http.MethodPost, rules},
			{http.MethodGet, rules + "/:index"}, {http.MethodPut, rules + "/:index"}, {http.MethodDelete, rules + "/:index"},
		},
		"profiles of MAC settings: write mac_settings of each device": {
			{http.MethodGet, "/ns" + app + "/mac_settings_profiles"}, {http.MethodPost, "/ns" + app + "/mac_settings_profiles"},
			{http.MethodGet, "/ns" + app + "/mac_settings_profiles/:profile_id"}, {http.MethodPut, "/ns" + app + "/mac_settings_profiles/:profile_id"},
			{http.MethodDelete, "/ns" + app + "/mac_settings_profiles/:profile_id"},
		},
		"API keys or collaborators of radio gateways: use an admin key": {
			{http.MethodGet, gateway + "/api-keys"}, {http.MethodPost, gateway + "/api-keys"}, {http.MethodGet, gateway + "/api-keys/:key_id"},
			{http.MethodPut, gateway + "/api-keys/:key_id"}, {http.MethodDelete, gateway + "/api-keys/:key_id"},
			{http.MethodGet, gateway + "/collaborators"}, {http.MethodPut, gateway + "/collaborators"},
		},
		"collaborators: give people API keys of the application": {{http.MethodPut, app + "/collaborators"}, {http.MethodDelete, app + "/collaborators/user/:user_id"}},
		"users: who holds an admin key is the admin": {
			{http.MethodGet, "/users"}, {http.MethodPost, "/users"}, {http.MethodPut, "/users/:user_id"}, {http.MethodDelete, "/users/:user_id"},
		},
		"organizations": {
			{http.MethodGet, "/organizations"}, {http.MethodPost, "/users/:user_id/organizations"}, {http.MethodGet, "/organizations/:organization_id"},
			{http.MethodPut, "/organizations/:organization_id"}, {http.MethodDelete, "/organizations/:organization_id"},
		},
	} {
		for _, p := range paths {
			may := information
			if !strings.Contains(p.path, ":application_id") {
				may = admin("user")
			}
			out = append(out, route{p.method, p.path, may, notAvailable(why)})
		}
	}
	return out
}

type methodPath struct{ method, path string }

// notAvailable is the answer of a path for something that this server does not have.
func notAvailable(what string) func(*Server, *call) error {
	return func(*Server, *call) error {
		return &statusError{status: http.StatusNotImplemented, grpc: 12, err: messages.Errorf(messages.CodePrecondition, "not_available", "this server has no %s", what)}
	}
}

// listNone is the answer of a path that lists what there never is.
func listNone(member string) func(*Server, *call) error {
	return func(s *Server, c *call) error {
		if !s.cfg.Registry.ApplicationExists(c.app()) {
			return messages.NotFound("application_not_found", "application %q not found", c.app())
		}
		return c.JSON(http.StatusOK, map[string][]struct{}{member: {}})
	}
}
