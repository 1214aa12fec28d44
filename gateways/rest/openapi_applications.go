package rest

import (
	v3 "lorikeet/messages/v3"
)

// applicationOperations describes applications, their keys and links.
func applicationOperations() map[string]operation {
	return map[string]operation{
		"GET /applications":                                            {summary: "Lists the applications that the key may see.", answer: list[v3.Application]("applications"), query: paged},
		"GET /users/:user_id/applications":                             {summary: "Lists the applications that the key may see.", answer: list[v3.Application]("applications"), query: paged},
		"GET /organizations/:organization_id/applications":             {summary: "Lists the applications that the key may see.", answer: list[v3.Application]("applications"), query: paged},
		"POST /users/:user_id/applications":                            {summary: "Makes an application.", request: write[v3.Application]("application"), answer: one[v3.Application]()},
		"POST /organizations/:organization_id/applications":            {summary: "Makes an application.", request: write[v3.Application]("application"), answer: one[v3.Application]()},
		"GET /applications/:application_id":                            {summary: "Shows an application.", answer: one[v3.Application](), query: oneMask},
		"PUT /applications/:application_id":                            {summary: "Changes an application.", request: write[v3.Application]("application"), answer: one[v3.Application]()},
		"DELETE /applications/:application_id":                         {summary: "Deletes an application with all that is in it."},
		"DELETE /applications/:application_id/purge":                   {summary: "Deletes an application with all that is in it."},
		"POST /applications/:application_id/restore":                   {summary: "Refuses: a deleted application is gone."},
		"POST /applications/:application_id/dev-eui":                   {summary: "Gives a DevEUI that was not given before.", answer: one[devEUIBody]()},
		"GET /applications/:application_id/rights":                     {summary: "Lists the rights that the key has on the application.", answer: one[rightsBody]()},
		"GET /applications/:application_id/collaborators":              {summary: "Lists who may work on the application: the admin.", answer: list[collaborator]("collaborators"), query: paged},
		"GET /applications/:application_id/collaborator/user/:user_id": {summary: "Shows the rights of a collaborator.", answer: one[collaborator]()},
		"GET /users/:user_id":                                          {summary: "Shows a user: there is admin only.", answer: one[userBody]()},
		"GET /search/applications":                                     {summary: "Finds applications.", answer: list[v3.Application]("applications"), query: listing("query", "id_contains", "name_contains", "description_contains", "attributes_contain", "deleted")},
		"GET /as/applications/:application_id/link":                    {summary: "Shows what the application gives its devices by default.", answer: one[v3.Link](), query: oneMask},
		"PUT /as/applications/:application_id/link":                    {summary: "Changes what the application gives its devices by default.", request: write[v3.Link]("link"), answer: one[v3.Link]()},
		"DELETE /as/applications/:application_id/link":                 {summary: "Takes away what the application gives its devices by default."},
		"GET /as/applications/:application_id/mqtt-connection-info":    {summary: "Tells how to connect to the MQTT broker.", answer: one[connectionInfo]()},
		"GET /applications/:application_id/api-keys":                   {summary: "Lists the API keys of the application, without the keys themselves.", answer: list[v3.APIKey]("api_keys"), query: paged},
		"POST /applications/:application_id/api-keys":                  {summary: "Makes an API key of the application and shows it this once.", request: one[apiKeyRequest](), answer: one[v3.APIKey]()},
		"GET /applications/:application_id/api-keys/:key_id":           {summary: "Shows an API key of the application.", answer: one[v3.APIKey]()},
		"PUT /applications/:application_id/api-keys/:key_id":           {summary: "Changes an API key of the application.", request: write[v3.APIKey]("api_key"), answer: one[v3.APIKey]()},
		"DELETE /applications/:application_id/api-keys/:key_id":        {summary: "Deletes an API key of the application: it opens nothing any more."},
		"GET /users/:user_id/api-keys":                                 {summary: "Lists the API keys of the admin, without the keys themselves.", answer: list[v3.APIKey]("api_keys"), query: paged},
		"POST /users/:user_id/api-keys":                                {summary: "Makes an API key of the admin and shows it this once.", request: one[apiKeyRequest](), answer: one[v3.APIKey]()},
		"GET /users/:user_id/api-keys/:key_id":                         {summary: "Shows an API key of the admin.", answer: one[v3.APIKey]()},
		"PUT /users/:user_id/api-keys/:key_id":                         {summary: "Changes an API key of the admin.", request: write[v3.APIKey]("api_key"), answer: one[v3.APIKey]()},
		"DELETE /users/:user_id/api-keys/:key_id":                      {summary: "Deletes an API key of the admin: it opens nothing any more."},
		"GET /js/applications/:application_id/settings":                {summary: "Shows how the keys of devices are wrapped, without the KEK.", answer: one[v3.ActivationSettings](), query: oneMask},
		"POST /js/applications/:application_id/settings":               {summary: "Sets how the keys of devices are wrapped.", request: write[v3.ActivationSettings]("settings"), answer: one[v3.ActivationSettings]()},
		"PUT /js/applications/:application_id/settings":                {summary: "Sets how the keys of devices are wrapped.", request: write[v3.ActivationSettings]("settings"), answer: one[v3.ActivationSettings]()},
		"DELETE /js/applications/:application_id/settings":             {summary: "Forgets how the keys of devices are wrapped, and the KEK."},
	}
}
