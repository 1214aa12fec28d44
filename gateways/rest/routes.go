package rest

import (
	"net/http"

	"lorikeet/messages"
)

// prefix of the paths of The Things Stack's API.
const prefix = "/api/v3"

// route is one method and path, who may call it, and what it does.
type route struct {
	method, path string
	access       access
	handler      func(*Server, *call) error
}

var (
	writeIntegrations = []messages.Right{messages.RightApplicationSettingsBasic, messages.RightApplicationTrafficRead, messages.RightApplicationTrafficDownWrite}

	readDevices  = application(messages.RightApplicationDevicesRead)
	writeDevices = application(messages.RightApplicationDevicesWrite)
	readTraffic  = application(messages.RightApplicationTrafficRead)
	sendDown     = application(messages.RightApplicationTrafficDownWrite)
	settings     = application(messages.RightApplicationSettingsBasic)
	integrate    = application(writeIntegrations...)
	manageKeys   = application(messages.RightApplicationSettingsAPIKeys)
	information  = application(messages.RightApplicationInfo)
)

// routes is the whole API. Keys of devices need a further right, which their handlers ask for.
func routes() []route {
	all := serverRoutes()
	for _, part := range [][]route{
		applicationRoutes(),
		deviceRoutes(),
		trafficRoutes(),
		integrationRoutes(),
		signingRoutes(),
		templateRoutes(),
		deliveryRoutes(),
		gatewayRoutes(),
		searchRoutes(),
		batchRoutes(),
		accountRoutes(),
		activationRoutes(),
		networkRoutes(),
		unavailableRoutes(),
		eventRoutes(),
		qrCodeRoutes(),
		claimRoutes(),
		historyRoutes(),
		fleetRoutes(),
		deviceRepositoryRoutes(),
	} {
		for _, r := range part {
			r.path = prefix + r.path
			all = append(all, r)
		}
	}
	return all
}

func serverRoutes() []route {
	return []route{
		{http.MethodGet, "/", public, (*Server).hint},
		{http.MethodGet, "/healthz", public, (*Server).health},
		{http.MethodHead, "/healthz", public, (*Server).health},
		{http.MethodGet, "/readyz", public, (*Server).ready},
		{http.MethodHead, "/readyz", public, (*Server).ready},
		{http.MethodGet, "/metrics", public, (*Server).prometheus},
		{http.MethodGet, prefix + "/openapi.json", public, (*Server).describe},
		{http.MethodGet, prefix + "/cluster", admin("cluster"), (*Server).cluster},
		{http.MethodGet, prefix + "/auth_info", anyKey, (*Server).authInfo},
	}
}

func applicationRoutes() []route {
	const app, keys = "/applications/:application_id", "/applications/:application_id/api-keys"
	return []route{
		{http.MethodGet, "/applications", anyKey, (*Server).listApplications},
		{http.MethodGet, "/users/:user_id/applications", anyKey, (*Server).listApplications},
		{http.MethodGet, "/organizations/:organization_id/applications", anyKey, (*Server).listApplications},
		{http.MethodPost, "/users/:user_id/applications", admin("user"), (*Server).createApplication},
		{http.MethodPost, "/organizations/:organization_id/applications", admin("organization"), (*Server).createApplication},
		{http.MethodGet, app, information, (*Server).getApplication},
		{http.MethodPut, app, settings, (*Server).updateApplication},
		{http.MethodDelete, app, application(messages.RightApplicationDelete), (*Server).deleteApplication},
		{http.MethodGet, app + "/rights", application(), (*Server).listRights},

		{http.MethodGet, keys, manageKeys, (*Server).listAPIKeys},
		{http.MethodPost, keys, manageKeys, (*Server).createAPIKey},
		{http.MethodGet, keys + "/:key_id", manageKeys, (*Server).getAPIKey},
		{http.MethodPut, keys + "/:key_id", manageKeys, (*Server).updateAPIKey},
		{http.MethodDelete, keys + "/:key_id", manageKeys, (*Server).deleteAPIKey},

		{http.MethodGet, "/users/:user_id/api-keys", admin("user"), (*Server).listAPIKeys},
		{http.MethodPost, "/users/:user_id/api-keys", admin("user"), (*Server).createAPIKey},
		{http.MethodGet, "/users/:user_id/api-keys/:key_id", admin("user"), (*Server).getAPIKey},
		{http.MethodPut, "/users/:user_id/api-keys/:key_id", admin("user"), (*Server).updateAPIKey},
		{http.MethodDelete, "/users/:user_id/api-keys/:key_id", admin("user"), (*Server).deleteAPIKey},

		{http.MethodGet, "/as" + app + "/link", settings, (*Server).getLink},
		{http.MethodPut, "/as" + app + "/link", settings, (*Server).setLink},
		{http.MethodDelete, "/as" + app + "/link", settings, (*Server).deleteLink},
		{http.MethodGet, "/as" + app + "/mqtt-connection-info", information, (*Server).mqttConnectionInfo},
	}
}

func deviceRoutes() []route {
	const devices, device = "/applications/:application_id/devices", "/applications/:application_id/devices/:device_id"
	out := []route{
		{http.MethodGet, devices, readDevices, (*Server).listDevices},
		{http.MethodPost, devices, writeDevices, (*Server).createDevice},
		{http.MethodGet, device, readDevices, viewIS.get},
		{http.MethodPut, device, writeDevices, (*Server).updateIS},
		{http.MethodDelete, device, writeDevices, (*Server).deleteDevice},
		{http.MethodPatch, "/ns" + device, writeDevices, (*Server).resetDevice},
	}
	for name, v := range views {
		out = append(out,
			route{http.MethodPost, name + devices, writeDevices, (*Server).upsert},
			route{http.MethodGet, name + device, readDevices, v.get},
			route{http.MethodPut, name + device, writeDevices, (*Server).upsert},
			route{http.MethodDelete, name + device, writeDevices, v.delete},
		)
	}
	return out
}

func trafficRoutes() []route {
	const device = "/as/applications/:application_id/devices/:device_id"
	return []route{
		{http.MethodGet, device + "/down", readTraffic, (*Server).listDownlinks},
		{http.MethodPost, device + "/down/push", sendDown, (*Server).pushDownlinks},
		{http.MethodPost, device + "/down/replace", sendDown, (*Server).replaceDownlinks},
		{http.MethodPost, device + "/down/cancel", sendDown, (*Server).cancelDownlinks},
		{http.MethodDelete, device + "/down/:downlink_id", sendDown, (*Server).cancelDownlink},
		{http.MethodPost, device + "/down/encode", readTraffic, (*Server).encodeDownlink},
		{http.MethodPost, device + "/down/decode", readTraffic, (*Server).decodeDownlink},
		{http.MethodPost, device + "/up/decode", readTraffic, (*Server).decodeUplink},
		{http.MethodPost, device + "/up/simulate", application(messages.RightApplicationTrafficUpWrite), (*Server).simulateUplink},
	}
}

func integrationRoutes() []route {
	const (
		hooks   = "/as/webhooks/:application_id"
		down    = "/as/applications/:application_id/webhooks/:webhook_id/devices/:device_id/down"
		pubsubs = "/as/pubsub/:application_id"
	)
	return []route{
		{http.MethodGet, "/as/webhook-formats", anyKey, (*Server).listFormats},
		{http.MethodGet, hooks, readTraffic, (*Server).listWebhooks},
		{http.MethodPost, hooks, integrate, (*Server).setWebhook},
		{http.MethodGet, hooks + "/:webhook_id", readTraffic, (*Server).getWebhook},
		{http.MethodPut, hooks + "/:webhook_id", integrate, (*Server).setWebhook},
		{http.MethodDelete, hooks + "/:webhook_id", integrate, (*Server).deleteWebhook},
		{http.MethodPost, down + "/push", sendDown, (*Server).webhookPush},
		{http.MethodPost, down + "/replace", sendDown, (*Server).webhookReplace},

		{http.MethodGet, "/as/pubsub-formats", anyKey, (*Server).listFormats},
		{http.MethodGet, pubsubs, readTraffic, (*Server).listPubSubs},
		{http.MethodPost, pubsubs, integrate, (*Server).setPubSub},
		{http.MethodGet, pubsubs + "/:pub_sub_id", readTraffic, (*Server).getPubSub},
		{http.MethodPut, pubsubs + "/:pub_sub_id", integrate, (*Server).setPubSub},
		{http.MethodDelete, pubsubs + "/:pub_sub_id", integrate, (*Server).deletePubSub},
	}
}

func gatewayRoutes() []route {
	const gateway = "/gateways/:gateway_id"
	return []route{
		{http.MethodGet, "/gateways", admin("gateway"), (*Server).listGateways},
		{http.MethodGet, "/users/:user_id/gateways", admin("gateway"), (*Server).listGateways},
		{http.MethodGet, "/organizations/:organization_id/gateways", admin("gateway"), (*Server).listGateways},
		{http.MethodPost, "/users/:user_id/gateways", admin("user"), (*Server).createGateway},
		{http.MethodPost, "/organizations/:organization_id/gateways", admin("organization"), (*Server).createGateway},
		{http.MethodGet, gateway, admin("gateway"), (*Server).getGateway},
		{http.MethodPut, gateway, admin("gateway"), (*Server).updateGateway},
		{http.MethodDelete, gateway, admin("gateway"), (*Server).deleteGateway},
		{http.MethodGet, gateway + "/rights", admin("gateway"), (*Server).listGatewayRights},
		{http.MethodGet, "/gs" + gateway + "/connection/stats", admin("gateway"), (*Server).gatewayStats},
	}
}
